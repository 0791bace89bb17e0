"""A language task: texts without labels, packed into rows, judged by the likelihood of their tokens."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from raydisc.config.sections import ReviewsConfig, TaskConfig
from raydisc.errors import InputError
from raydisc.tasks.base import load_task
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import metric, resampled_metric, standard_error
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tasks.tokenised import Split
from raydisc.tasks.tokeniser import pack

TEXTS = ["the food was good", "the room was not very bad", "the staff was awful and the view was nice"]


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def packed(tokenizer, length=5, texts=TEXTS):
    return pack(pa.table({"text_0": texts}), tokenizer, length, "train")


def test_texts_are_joined_with_an_end_each_and_cut_into_rows(tokenizer):
    joined = [token for text in TEXTS for token in (*text.split(), "[SEP]")]
    rows = packed(tokenizer).column("input_ids").to_pylist()
    assert tokenizer.convert_ids_to_tokens([token for row in rows for token in row]) == joined[:20]  # 22 tokens
    assert {len(row) for row in rows} == {5}


def test_batches_ask_for_each_token_but_a_rows_first(tokenizer):
    split = Split(packed(tokenizer), task_kind("language"))
    batch = split.batch(np.array([2, 0]), 0)
    assert batch.kind is task_kind("language")
    assert batch.labels.tolist() == [*batch.input_ids[0, 1:].tolist(), *batch.input_ids[1, 1:].tolist()]
    assert batch.real_tokens == batch.tokens


def test_texts_that_fill_no_row_and_tokenizers_without_an_end_are_refused(tokenizer):
    with pytest.raises(InputError, match="train texts have 22 tokens together, fewer than one row of 23"):
        packed(tokenizer, length=23)
    endless = word_tokenizer()
    endless.sep_token = None
    with pytest.raises(InputError, match="no end-of-text token"):
        packed(endless)


def test_an_end_of_text_token_goes_before_a_separator(tokenizer):
    both = word_tokenizer()
    both.eos_token = "[UNK]"
    rows = packed(both).column("input_ids").to_pylist()
    assert both.unk_token_id in rows[0]
    assert both.sep_token_id not in sum(rows, [])


def test_files_need_no_labels_and_keep_none(tmp_path):
    pa.parquet.write_table(pa.table({"text": TEXTS, "label": [0, 1, 2]}), tmp_path / "train.parquet")
    pa.parquet.write_table(pa.table({"text": TEXTS[:2]}), tmp_path / "other.parquet")
    other = str(tmp_path / "other.parquet")
    task = load_task(
        TaskConfig(
            train=str(tmp_path / "train.parquet"),
            validation=other,
            test=other,
            text=["text"],
            metric="token_likelihood",
        )
    )
    assert (task.kind.name, task.classes) == ("language", ())
    assert {name: table.column_names for name, table in task.splits.items()} == {
        name: ["text_0"] for name in ("train", "validation", "test")
    }


def test_the_reviews_can_be_read_as_texts():
    task = load_task(TaskConfig(reviews=ReviewsConfig(train=30, validation=10, test=10), metric="token_likelihood"))
    assert task.kind.name == "language"
    assert task.splits["test"].column_names == ["text_0"]


def test_pairs_and_classes_are_refused(tmp_path):
    file = str(tmp_path / "rows.parquet")
    pa.parquet.write_table(pa.table({"a": TEXTS, "b": TEXTS}), file)
    files = {"train": file, "validation": file, "test": file, "metric": "token_likelihood"}
    with pytest.raises(InputError, match="for texts of one column, but a, b are two"):
        load_task(TaskConfig(**files, text=["a", "b"]))
    with pytest.raises(InputError, match="has no classes"):
        load_task(TaskConfig(**files, text=["a"], classes=["x", "y"]))


def test_the_likelihood_is_one_over_perplexity():
    measure, losses = metric("token_likelihood"), np.array([[2.0], [3.0], [4.0]])
    labels = np.full(3, np.nan)
    assert measure.value(losses, labels) == pytest.approx(math.exp(-3))
    assert measure.from_means(measure.statistics(losses, labels).mean(0)) == pytest.approx(math.exp(-3))
    assert measure.value(np.array([[np.nan]]), labels[:1]) == 0.0
    assert measure.from_means(measure.statistics(np.array([[np.inf]]), labels[:1]).mean(0)) == 0.0


def test_its_standard_error_is_that_of_the_mean_loss():
    rng = np.random.default_rng(0)
    losses, labels = rng.normal(3.0, 0.5, (400, 1)), np.full(400, np.nan)
    expected = math.exp(-losses.mean()) * losses.std() / math.sqrt(400)  # the delta method
    assert standard_error(metric("token_likelihood"), losses, labels) == pytest.approx(expected, rel=0.1)
    assert len(resampled_metric(metric("token_likelihood"), losses, labels)) == 1000
