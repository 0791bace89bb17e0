import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts
from raydisc.tasks.splits import text_hashes

TEXTS = ["a good film", "a bad film", "fine", "dull", "very good", "very bad"]


@pytest.fixture
def write(tmp_path):
    """Writes a table as a file of the task; returns its path."""

    def write(name: str, **columns) -> str:
        table, path = pa.table(columns), tmp_path / name
        if path.suffix == ".parquet":
            pa.parquet.write_table(table, path)
        elif path.suffix == ".csv":
            pa.csv.write_csv(table, path)
        else:
            import json

            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        return str(path)

    return write


@pytest.fixture
def task(write):
    """A task's settings with good files, each of which a test may replace."""

    def task(metric: str = "accuracy", extension: str = "parquet", labels=(1, 0, 1, 0, 1, 0), **changes) -> TaskConfig:
        given = {
            split: write(f"{split}.{extension}", text=[f"{text} {split}" for text in TEXTS], label=list(labels))
            for split in ("train", "validation", "test")
        }
        return TaskConfig(**{**given, "text": ["text"], "metric": metric, **changes})

    return task


def refused(config: TaskConfig) -> str:
    with pytest.raises(InputError) as error:
        load_task(config)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_every_format_gives_the_same_task(task, extension):
    loaded, parquet = load_task(task(extension=extension)), load_task(task())
    assert loaded.fingerprint == parquet.fingerprint
    train = loaded.splits["train"]
    assert train.schema == pa.schema({"text_0": pa.string(), "label": pa.int64()})
    assert train.column("text_0").to_pylist()[0] == "a good film train"
    assert train.column("label").to_pylist() == [1, 0, 1, 0, 1, 0]
    assert (loaded.classes, loaded.num_labels, loaded.kind.name) == (("0", "1"), 2, "classification")
    assert loaded.notices == ()


def test_names(task):
    assert load_task(task(), "mine").name == "mine"
    assert load_task(task()).name.startswith("test_names")


def test_text_labels_are_sorted(task):
    loaded = load_task(task(labels=["yes", "no", "maybe", "no", "yes", "yes"]))
    assert loaded.classes == ("maybe", "no", "yes")
    assert loaded.splits["test"].column("label").to_pylist() == [2, 1, 0, 1, 2, 2]


def test_number_labels_are_sorted_as_numbers(task):
    assert load_task(task(labels=[10, 9, 10, 2, 9, 2])).classes == ("2", "9", "10")


def test_given_classes_decide_the_order(task):
    loaded = load_task(task(labels=["b", "a", "b", "a", "b", "a"], classes=["b", "a"]))
    assert loaded.splits["train"].column("label").to_pylist() == [0, 1, 0, 1, 0, 1]
    by_value = load_task(task(labels=[2, 1, 2, 1, 2, 1], classes=["2", "1"]))
    assert by_value.splits["train"].column("label").to_pylist() == [0, 1, 0, 1, 0, 1]


def test_numbers_are_positions_among_class_names(task):
    loaded = load_task(task(classes=["bad", "good"]))
    assert loaded.classes == ("bad", "good")
    assert loaded.splits["train"].column("label").to_pylist() == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("labels", [[True, False] * 3, [1.0, 0.0] * 3, np.array([1, 0] * 3, np.uint8)])
def test_truth_values_and_whole_floats_are_numbers(task, labels):
    assert load_task(task(labels=labels)).classes == ("0", "1")


def test_dictionary_columns_are_text(write, task):
    columns = {"text": pa.array(TEXTS).dictionary_encode(), "label": pa.array(["x", "y"] * 3).dictionary_encode()}
    path = write("d.parquet", **columns)
    loaded = load_task(task(train=path, validation=path, test=path))
    assert loaded.splits["train"].column("text_0").to_pylist() == TEXTS
    assert loaded.classes == ("x", "y")


def test_regression(task):
    loaded = load_task(task(metric="pearson", labels=[1.5, 2, 3, 4, 5, 0.5]))
    assert (loaded.kind.name, loaded.classes, loaded.num_labels) == ("regression", (), 1)
    assert loaded.splits["train"].schema.field("label").type == pa.float32()
    assert load_task(task(metric="pearson")).splits["train"].column("label").to_pylist()[:2] == [1.0, 0.0]


def test_pairs(write):
    path = write("p.csv", a=TEXTS, b=TEXTS[::-1], label=[0, 1] * 3)
    loaded = load_task(TaskConfig(train=path, validation=path, test=path, text=["b", "a"], metric="f1"))
    assert loaded.splits["test"].column_names == ["text_0", "text_1", "label"]
    assert loaded.splits["test"].column("text_0").to_pylist() == TEXTS[::-1]
    assert loaded.text == ("b", "a")


def test_quoted_text_may_run_over_lines(write, task):
    path = write("lines.csv", text=["one\ntwo", 'said "yes", then no'], label=[0, 1])
    loaded = load_task(task(train=path, validation=path, test=path))
    assert loaded.splits["train"].column("text_0").to_pylist() == ["one\ntwo", 'said "yes", then no']


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "nowhere.parquet"}, r"task.train: the file 'nowhere.parquet' does not exist"),
        ({"test": "rows.xlsx"}, r"task.test: 'rows.xlsx' has the extension '.xlsx'.*\.parquet, \.csv, \.jsonl"),
        ({"text": ["sentence"]}, r"task.text: train file .* has no column 'sentence'; its columns are text, label"),
        ({"label": "y"}, r"task.label: train file .* has no column 'y'; its columns are text, label"),
        ({"text": ["label"]}, r"task.text: column 'label' of train file .* holds int64; it must hold text"),
        ({"metric": "bleu"}, r"unknown metric 'bleu' in task.metric \(known: accuracy,"),
        ({"classes": ["0", "2"]}, r"train file .* has the label '1' in row 0 .* classes given .*: 0, 2"),
    ],
)
def test_wrong_settings(task, changes, message):
    import re

    assert re.match(
        message if message.startswith(("task", "unknown")) else f"task.label: {message}", refused(task(**changes))
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", None, None], "label": [0, 1, 0]}, "no text in row 1 (counted from 0; rows without text: 2)"),
        ({"text": ["a", "b", "c"], "label": [0, None, 1]}, "no label (empty, NaN or infinite) in row 1"),
        ({"text": ["a", "b"], "label": ["0", ""]}, "no label (empty, NaN or infinite) in row 1 (counted from 0"),
        ({"text": ["a", "b"], "label": [0.0, float("inf")]}, "no label (empty, NaN or infinite) in row 1"),
        ({"text": ["a", "b", "c"], "label": [0, 1, 2]}, "the label '2' in row 2 (counted from 0), which is not one"),
        ({"text": ["a", "b"], "label": [0.5, 1.0]}, "labels of fractions, but metric 'accuracy' needs whole numbers"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, "there are no rows"),
        ({"text": [1, 2], "label": [0, 1]}, "column 'text' of validation file"),
        ({"text": ["a", "b"], "label": [[0], [1]]}, "has labels of type list"),
    ],
)
def test_wrong_rows(write, task, columns, message):
    assert message in refused(task(validation=write("bad.parquet", **columns)))


def test_labels_of_the_test_must_be_known_too(write, task):
    bad = write("bad.parquet", text=["a", "b"], label=[0, 7])
    message = refused(task(test=bad))
    assert "test file" in message
    assert "the label '7' in row 1" in message
    assert "classes of the training rows: 0, 1" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, 1e300])
def test_targets_must_be_finite(write, task, bad):
    path = write("bad.parquet", text=["a", "b"], label=[0.5, bad])
    message = refused(task(metric="spearman", labels=[0.5, 1, 2, 3, 4, 5], train=path))
    assert "train file" in message
    assert "row 1" in message


def test_metric_must_fit_the_labels(task):
    assert "for regression use pearson, pearson_spearman, spearman" in refused(task(labels=[0.5] * 6))
    assert "for classes use accuracy" in refused(task(metric="pearson", labels=["a", "b"] * 3))
    message = refused(task(metric="f1", labels=[0, 1, 2] * 2))
    assert "'f1' is for two classes and the task has 3 (0, 1, 2); use accuracy or matthews" in message
    assert "has one class only, '1'" in refused(task(labels=[1] * 6))


def test_content_must_be_what_the_extension_says(tmp_path, task):
    for name, content in (("x.parquet", "no"), ("x.csv", "a,b\n1\n"), ("x.jsonl", "{")):
        (tmp_path / name).write_text(content)
        assert f"cannot be read as {name[2:]}" in refused(task(train=str(tmp_path / name)))


def many(write, name: str, n: int, **extra) -> str:
    return write(name, text=[f"text {i} of {name}" for i in range(n)], label=[i % 2 for i in range(n)], **extra)


def test_without_a_test_the_validation_becomes_it(write):
    train, validation = many(write, "train.parquet", 1000), many(write, "validation.parquet", 50)
    loaded = load_task(TaskConfig(train=train, validation=validation, text=["text"], metric="accuracy"))
    assert loaded.splits["test"].num_rows == 50
    held = loaded.splits["validation"].num_rows
    assert 60 < held < 140
    assert loaded.splits["train"].num_rows == 1000 - held
    texts = {name: set(table.column("text_0").to_pylist()) for name, table in loaded.splits.items()}
    assert not texts["train"] & texts["validation"]
    assert len(loaded.notices) == 1
    assert f"{held} of 1000 training rows" in loaded.notices[0]


def test_held_out_rows_do_not_depend_on_the_order_of_rows(write):
    texts, labels = [f"text {i}" for i in range(300)], [i % 2 for i in range(300)]
    validation = many(write, "validation.parquet", 50)
    held = []
    for name, step in (("a", 1), ("b", -1)):
        train = write(f"{name}.parquet", text=texts[::step], label=labels[::step])
        loaded = load_task(TaskConfig(train=train, validation=validation, text=["text"], metric="accuracy"))
        held.append(set(loaded.splits["validation"].column("text_0").to_pylist()))
    assert held[0] == held[1]


@pytest.mark.parametrize("label", [None, [-1] * 4, pa.array([None] * 4, pa.int64())])
def test_a_test_without_labels_is_kept_beside(write, label):
    train, validation = many(write, "train.parquet", 200), many(write, "validation.parquet", 50)
    test = write("test.parquet", text=list("abcd"), **({} if label is None else {"label": label}))
    loaded = load_task(TaskConfig(train=train, validation=validation, test=test, text=["text"], metric="accuracy"))
    assert loaded.splits["unlabelled"].to_pydict() == {"text_0": list("abcd")}
    assert loaded.splits["test"].num_rows == 50
    assert "the test split has no labels" in loaded.notices[0]


def test_too_few_rows_to_hold_any_out(write):
    train, validation = many(write, "train.parquet", 2), many(write, "validation.parquet", 4)
    config = TaskConfig(train=train, validation=validation, text=["text"], metric="accuracy")
    assert "2 training rows are too few to hold a tenth out" in refused(config)


def test_train_rows_keeps_the_smallest_hashes_in_order(write, task):
    full = many(write, "full.parquet", 100)
    loaded = load_task(task(train=full, train_rows=20))
    whole = load_task(task(train=full)).splits["train"]
    kept = np.sort(np.argsort(text_hashes(whole))[:20])
    assert loaded.splits["train"].equals(whole.take(pa.array(kept)))
    fewer = load_task(task(train=full, train_rows=10)).splits["train"]
    assert set(fewer.column("text_0").to_pylist()) < set(loaded.splits["train"].column("text_0").to_pylist())
    assert "all 100 training rows" in load_task(task(train=full, train_rows=500)).notices[0]


def test_fingerprint_is_of_contents_and_settings(task, write):
    base = load_task(task()).fingerprint
    assert load_task(task(), "another name").fingerprint == base
    for changes in (
        {"max_length": 64},
        {"metric": "f1"},
        {"labels": (0, 1, 0, 1, 0, 1)},
        {"classes": ["bad", "good"]},
        {"train": write("moved.parquet", text=["ab", "c"], label=[0, 1])},
        {"train": write("other.parquet", text=["a", "bc"], label=[0, 1])},
    ):
        changed = load_task(task(**changes)).fingerprint
        assert changed != base
        base = changed


def test_texts_to_predict(write):
    path = write("new.csv", a=TEXTS, b=TEXTS[::-1])
    assert read_texts(path, ["b"]).to_pydict() == {"text_0": TEXTS[::-1]}
    with pytest.raises(InputError, match="task.text: .*new.csv' has no column 'text'"):
        read_texts(path, ["text"])


def test_texts_of_training_rows_in_other_splits_are_counted(task, write):
    """Both texts of a row count; its label does not."""
    numbers = list(range(40))
    train = {"a": [f"first {n}" for n in numbers], "b": [f"second {n}" for n in numbers], "label": [0, 1] * 20}
    other = {**train, "b": ["another"] * 40}
    test = {name: train[name][:3] + other[name] for name in train} | {"label": [1, 0, 1] + other["label"]}
    files = {
        split: write(f"own_{split}.parquet", **columns)
        for split, columns in (("train", train), ("validation", other), ("test", test))
    }
    assert load_task(task(**files, text=["a", "b"])).notices == (
        "task: 3 of 43 test rows have a text that is in train too, which a model may have learned by heart",
    )
