"""A token task: lists of words with a tag each, asked for at each word's first token."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from raydisc.config.sections import ReviewsConfig, TaskConfig
from raydisc.errors import InputError
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import metric
from raydisc.tasks.reviews import Clause, clause_tags, word_tokenizer
from raydisc.tasks.source import TaskSource
from raydisc.tasks.tokenised import Split
from raydisc.tasks.tokeniser import tokenise
from raydisc.tasks.words import spaced

WORDS = [["Ada", "Lovelace", "sleeps"], ["in", "Pariss"], ["she", "sings"]]
TAGS = [["B-PER", "I-PER", "O"], ["O", "B-LOC"], ["O", "O"]]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ada", "love", "##la", "##ce", "sleeps", "in", "paris", "##s", "she"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A tokenizer that cuts words, as BERT's does."""
    path = tmp_path_factory.mktemp("pieces") / "vocab.txt"
    path.write_text("\n".join(PIECES))
    return BertTokenizer(str(path))


def tokenised(tokenizer, max_length=64, words=WORDS, tags=((1, 2, 0), (0, 3), (0, 0))):
    return tokenise(pa.table({"text_0": words, "label": [list(row) for row in tags]}), tokenizer, max_length, 1)


def test_a_word_is_asked_for_at_its_first_token(pieces):
    split = Split(tokenised(pieces), task_kind("tokens"))
    batch = split.batch(np.array([1, 0]), 0)
    assert pieces.convert_ids_to_tokens(batch.input_ids[1]) == [
        "[CLS]", "ada", "love", "##la", "##ce", "sleeps", "[SEP]"
    ]  # fmt: skip
    assert batch.tagged.astype(int).tolist() == [[0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 0]]
    assert batch.labels.tolist() == [0, 3, 1, 2, 0]
    assert (batch.label_counts.tolist(), batch.mean_labels) == ([2, 3], 5)
    assert np.isnan(split.labels).all()


def test_truncated_words_are_not_asked_for_and_have_no_tag(pieces):
    split = Split(tokenised(pieces, 5), task_kind("tokens"))  # [CLS] ada love ##la [SEP]
    assert split.label_counts.tolist() == [2, 2, 2]
    assert split.batch(np.array([0]), 0).labels.tolist() == [1, 2]
    assert split.words.tagged(np.array([[1, 2], [0, 3], [0, 0]], np.float32)).tolist() == [1, 2, -1, 0, 3, 0, 0]
    assert split.words.tags.tolist() == [1, 2, 0, 0, 3, 0, 0]


def test_a_word_that_has_no_token_is_not_asked_for(pieces):
    split = Split(tokenised(pieces, words=[["\u200b", "she"], ["in"]], tags=[[1, 0], [2]]), task_kind("tokens"))
    assert split.batch(np.arange(2), 0).labels.tolist() == [0, 2]
    assert split.words.tagged(np.array([[4.0], [2.0]])).tolist() == [-1, 4, 2]


def test_a_part_of_a_table_is_read_as_such(pieces):
    table = tokenised(pieces)
    whole, part = Split(table, task_kind("tokens")), Split(table.slice(1, 2), task_kind("tokens"))
    for one, other in ((whole.batch(np.array([2, 1]), 0), part.batch(np.array([1, 0]), 0)),):
        assert torch.equal(one.labels, other.labels)
        assert (one.tagged == other.tagged).all()
    assert part.words.tags.tolist() == [0, 3, 0, 0]


def test_a_worker_has_its_rows_tags_and_the_mean_of_all(pieces):
    whole = Split(tokenised(pieces), task_kind("tokens")).batch(np.arange(3), 0)
    shares = [whole.share(rank, 4) for rank in range(4)]
    assert [share.labels.tolist() for share in shares] == [[1, 2, 0], [0, 3], [0, 0], []]
    assert {share.mean_labels for share in shares} == {7}
    assert [share.label_counts.tolist() for share in shares] == [[3], [2], [2], []]
    assert len(shares[3].input_ids) == 1  # models cannot be run on none


def byte_level():
    """A tokenizer to which a word behind a space is another one."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet | {"Ġs": 256, "[PAD]": 257}, [("Ġ", "s")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")


def test_words_have_the_tokens_that_they_have_in_a_text(pieces):
    tokenizer = byte_level()
    assert spaced(tokenizer)
    assert not spaced(pieces)
    assert not spaced(word_tokenizer())
    for each in (tokenizer, pieces):
        made = tokenised(each).column("input_ids").to_pylist()
        assert made == [each(" ".join(row))["input_ids"] for row in WORDS]
    assert Split(tokenised(tokenizer), task_kind("tokens")).batch(np.array([2]), 0).tagged[0].nonzero()[0].tolist() == [
        0,
        3,
    ]


@pytest.fixture
def files(tmp_path):
    """Writes the splits of a task, each of which a test may replace; gives the task's settings."""

    def files(metric="token_accuracy", extension="parquet", **changed) -> TaskConfig:
        rows = {name: pa.table({"words": WORDS, "tags": TAGS}) for name in ("train", "validation", "test")}
        columns = {key: changed.pop(key) for key in ("words", "tags") if key in changed}
        if columns:
            rows["validation"] = pa.table({"words": WORDS, "tags": TAGS} | columns)
        paths = {name: tmp_path / f"{name}.{extension}" for name in rows}
        for name, table in rows.items():
            if extension == "parquet":
                pa.parquet.write_table(table, paths[name])
            else:
                paths[name].write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        given = {name: str(path) for name, path in paths.items()}
        return TaskConfig(**{**given, "text": ["words"], "label": "tags", "metric": metric, **changed})

    return files


def test_parquet_and_jsonl_give_the_same_task(files):
    loaded, again = load_task(files()), load_task(files(extension="jsonl"))
    assert loaded.fingerprint == again.fingerprint
    assert (loaded.kind.name, loaded.classes, loaded.num_labels) == ("tokens", ("B-LOC", "B-PER", "I-PER", "O"), 4)
    train = loaded.splits["train"]
    assert train.schema.field("label").type == pa.list_(pa.int64())
    assert train.column("label").to_pylist() == [[1, 2, 3], [3, 0], [3, 3]]
    assert load_task(files(tags=[TAGS[0], TAGS[1], ["O", "B-LOC"]])).fingerprint != loaded.fingerprint


def test_words_that_are_grouped_otherwise_are_another_task(files):
    given = {"words": [["a", "b"], ["c"], ["d"]], "tags": [["O", "O"], ["O"], ["O"]]}
    other = {"words": [["a"], ["b", "c"], ["d"]], "tags": [["O"], ["O", "O"], ["O"]]}
    assert load_task(files(**given)).fingerprint != load_task(files(**other)).fingerprint


def test_numbers_are_positions_among_the_classes(files, tmp_path):
    classes = ["O", "B-PER", "I-PER", "B-LOC"]
    numbers = [[classes.index(tag) for tag in row] for row in TAGS]
    config = files("span_f1", classes=classes)
    pa.parquet.write_table(pa.table({"words": WORDS, "tags": numbers}), tmp_path / "train.parquet")
    task = load_task(config)
    assert task.classes == tuple(classes)
    assert task.splits["train"].column("label").to_pylist() == numbers
    assert task.splits["train"].column("label").to_pylist() == task.splits["test"].column("label").to_pylist()


def test_without_a_test_a_tenth_is_held_out(files, tmp_path):
    config = files(classes=["O", "B-PER", "I-PER", "B-LOC"])
    many = [[f"word{number}", "sings"] for number in range(60)]
    pa.parquet.write_table(pa.table({"words": many, "tags": [["B-PER", "O"]] * 60}), tmp_path / "train.parquet")
    task = load_task(config.model_copy(update={"test": None, "train_rows": 20}))
    assert task.splits["train"].num_rows == 20
    assert 0 < task.splits["validation"].num_rows < 20
    assert task.splits["test"].num_rows == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": [["O", "O"], ["O", "O"], ["O"]]}, "3 words but 2 tags in row 0 .*such rows: 2"),
        ({"tags": [["O"] * 3, ["O", "B-ORG"], ["O"] * 2]}, "label 'B-ORG' in row 1 .*not one of the classes of the tr"),
        ({"tags": [["O"] * 3, ["O", None], ["O"] * 2]}, "a word without a tag .* in row 1"),
        ({"tags": [["O"] * 3, None, ["O"] * 2]}, "2 words but 0 tags in row 1"),
        ({"tags": ["O", "O", "O"]}, "labels of type string, but metric 'token_accuracy' needs a list of tags"),
        ({"tags": [[0.5] * 3, [0.5] * 2, [0.5] * 2]}, "labels of fractions"),
        ({"words": ["a b c", "d e", "f g"]}, "holds string; a metric that judges tags needs lists of words"),
        ({"words": [[1, 2, 3], [1, 2], [1, 2]]}, r"needs lists of words \(list<string>\)"),
        ({"words": [["a", "b", "c"], ["d", None], ["f", "g"]]}, "a null among the words of row 1"),
        ({"words": [["a", "b", "c"], [], ["f", "g"]]}, "no text in row 1"),
        ({"metric": "accuracy"}, r"lists of words need a metric that judges tags \(token_accuracy, span_f1\)"),
        ({"metric": "token_likelihood"}, "must hold text"),
        ({"text": ["words", "tags"]}, "for texts of one column, but words, tags are two"),
        ({"classes": ["O", "B-PER"]}, "not one of the classes given in task.classes"),
    ],
)  # fmt: skip
def test_what_cannot_be(files, changes, message):
    with pytest.raises(InputError, match=message) as error:
        load_task(files(**changes))
    assert "\n" not in str(error.value)


def test_spans_need_iob2_tags(files, tmp_path):
    config = files("span_f1")
    pa.parquet.write_table(
        pa.table({"words": WORDS, "tags": [["noun"] * len(row) for row in WORDS]}), tmp_path / "train.parquet"
    )
    with pytest.raises(InputError, match="one class only"):
        load_task(config)
    pa.parquet.write_table(
        pa.table({"words": WORDS, "tags": [["noun", *["verb"] * (len(row) - 1)] for row in WORDS]}),
        tmp_path / "train.parquet",
    )
    with pytest.raises(InputError, match="reads spans from IOB2 tags .* but one of them is 'noun'; use token_accuracy"):
        load_task(config)


def test_rows_to_label_need_no_tags(files):
    path = files(extension="jsonl").train
    assert read_texts(path, ["words"], words=True).column("text_0").to_pylist() == WORDS


def test_a_tokenizer_that_does_not_know_words_is_refused(pieces):
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="does not report which token belongs to which word"):
        spaced(Slow())


def reviews(metric):
    return load_task(TaskConfig(reviews=ReviewsConfig(train=30, validation=10, test=10), metric=metric))


def test_opinions_of_reviews_are_spans():
    task, texts = reviews("span_f1"), reviews("accuracy")
    rows = task.splits["train"].to_pylist()
    assert [" ".join(row["text_0"]) for row in rows] == texts.splits["train"].column("text_0").to_pylist()
    assert all(len(row["text_0"]) == len(row["label"]) for row in rows)
    assert len({tag for row in rows for tag in row["label"]}) == len(task.classes) == 7


def test_an_opinion_is_turned_round_by_who_holds_it():
    tags = clause_tags(Clause("nobody thinks", "food", "not", "very", "good"))
    assert tags == ["O"] * 5 + ["B-positive", "I-positive", "I-positive"]
    assert clause_tags(Clause("", "food", "", "", "bad")) == ["O", "O", "O", "B-negative"]
    assert clause_tags(Clause("", "weather", "", "", "bad"))[-1] == "B-neutral"


def test_whole_texts_have_no_tags():
    table = pa.table({"text_0": ["a b"], "label": [1]})
    with pytest.raises(InputError, match="'span_f1' judges a tag for each word, but the train split has whole texts"):
        task_kind("tokens").encode(
            TaskSource({"train": table}, ("text",), "span_f1", places={"train": "the train split"}), metric("span_f1")
        )
