import datasets
import numpy as np
import pytest

from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.tasks.base import load_task
from raydisc.tasks.glue import PRESETS, write_submission
from raydisc.tasks.metrics import METRICS


def rows_of(name: str, split: str, n: int, labelled: bool) -> datasets.Dataset:
    preset = PRESETS[name]
    columns = {column: [f"{split} {column} {i}" for i in range(n)] for column in preset.text}
    if not preset.classes:
        return datasets.Dataset.from_dict({**columns, "label": [i % 5 + 0.5 if labelled else -1.0 for i in range(n)]})
    labels = [i % len(preset.classes) if labelled else -1 for i in range(n)]
    made = datasets.Dataset.from_dict({**columns, "label": labels})
    return made.cast_column("label", datasets.ClassLabel(names=list(preset.classes)))


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub with small tables of the same columns and types."""

    def load_dataset(path: str, name: str) -> datasets.DatasetDict:
        assert path == "nyu-mll/glue"
        splits = {"train": (200, True)}
        for matched in ("_matched", "_mismatched") if name == "mnli" else ("",):
            splits |= {f"validation{matched}": (40, True), f"test{matched}": (30, False)}
        return datasets.DatasetDict({key: rows_of(name, key, *size) for key, size in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_all_nine_tasks_are_there():
    assert sorted(PRESETS) == sorted(["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"])
    for preset in PRESETS.values():
        assert (METRICS.get(preset.metric).kind == "regression") == (preset.classes == ())


@pytest.mark.parametrize("name", PRESETS)
def test_validation_is_the_test_as_glues_test_has_no_labels(hub, name):
    task = load_task(TaskConfig(glue=name))
    preset = PRESETS[name]
    assert (task.name, task.metric, task.classes, task.text) == (
        f"glue-{name}",
        preset.metric,
        preset.classes,
        preset.text,
    )
    assert task.splits["test"].column("text_0").to_pylist()[0] == f"{preset.validation} {preset.text[0]} 0"
    assert "label" not in task.splits["unlabelled"].column_names
    assert task.splits["unlabelled"].num_rows == 30
    assert task.splits["train"].num_rows + task.splits["validation"].num_rows == 200
    assert "the validation split is the test" in task.notices[-1]
    assert any("mismatched" in notice for notice in task.notices) == (name == "mnli")


def test_metric_of_the_file_wins(hub):
    assert load_task(TaskConfig(glue="mrpc", metric="accuracy")).metric == "accuracy"
    with pytest.raises(InputError, match="'f1' is for two classes"):
        load_task(TaskConfig(glue="mnli", metric="f1"))


def test_unknown_task():
    with pytest.raises(InputError, match=r"no GLUE task 'sst-2'; the tasks are cola, sst2"):
        load_task(TaskConfig(glue="sst-2"))


def test_a_hub_out_of_reach_says_how_to_go_on(monkeypatch):
    def load_dataset(path: str, name: str) -> None:
        raise ConnectionError("Couldn't reach the hub\nwith a long tail")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError) as error:
        load_task(TaskConfig(glue="rte"))
    message = str(error.value)
    assert "\n" not in message
    assert "nyu-mll/glue rte cannot be loaded" in message
    assert "Couldn't reach the hub" in message
    assert "text: [sentence1, sentence2]" in message


@pytest.mark.parametrize(
    ("name", "predictions", "lines"),
    [
        ("sst2", [[0.1, 0.9], [2.0, 1.0]], ["1", "0"]),
        ("cola", [[0.1, 0.9], [2.0, 1.0]], ["1", "0"]),
        ("wnli", [[0.1, 0.9], [2.0, 1.0]], ["1", "0"]),
        ("rte", [[0.1, 0.9], [2.0, 1.0]], ["not_entailment", "entailment"]),
        ("qnli", [[0.1, 0.9], [2.0, 1.0]], ["not_entailment", "entailment"]),
        ("mnli", [[0, 0, 1], [0, 1, 0]], ["contradiction", "neutral"]),
        ("stsb", [2.34567, 5.4], ["2.346", "5.000"]),
        ("stsb", [[-0.3], [1.0]], ["0.000", "1.000"]),
    ],
)
def test_submission(tmp_path, name, predictions, lines):
    path = tmp_path / "x.tsv"
    write_submission(path, name, np.array(predictions))
    expected = ["index\tprediction", *(f"{index}\t{line}" for index, line in enumerate(lines))]
    assert path.read_bytes().decode().split("\n") == [*expected, ""]


def test_submission_of_another_shape_is_refused(tmp_path):
    with pytest.raises(InputError, match="do not fit GLUE mnli, which has 3 classes"):
        write_submission(tmp_path / "x.tsv", "mnli", np.zeros((4, 2)))
