from collections import Counter

import pytest
from transformers import AutoTokenizer

from raydisc.config.sections import ReviewsConfig, TaskConfig
from raydisc.tasks.base import load_task
from raydisc.tasks.reviews import (
    ADJECTIVES,
    ASPECTS,
    ATTITUDES,
    CONNECTIVES,
    DEGREES,
    NEGATIONS,
    Clause,
    clause_value,
    review_label,
    review_value,
    vocabulary,
    word_tokenizer,
)


def parse(sentence: str) -> tuple[list[Clause], list[str]]:
    """Reads a review back: written here again, so that it does not share a mistake with the generator."""
    clauses, connectives, words = [], [], sentence.split()
    while words:
        if words[0] in CONNECTIVES:
            connectives.append(words.pop(0))
        attitude = ""
        if words[0] != "the":
            attitude = f"{words.pop(0)} {words.pop(0)}"
        assert words.pop(0) == "the"
        aspect = words.pop(0)
        assert words.pop(0) == "was"
        negation = words.pop(0) if words[0] in NEGATIONS else ""
        degree = words.pop(0) if words[0] in DEGREES else ""
        clauses.append(Clause(attitude, aspect, negation, degree, words.pop(0)))
    return clauses, connectives


def small(**settings):
    sizes = {"train": 300, "validation": 90, "test": 120, **settings}
    return load_task(TaskConfig(reviews=ReviewsConfig(**sizes)))


TRUTH = [
    ("the food was good", 1, "positive"),
    ("the food was great", 2, "positive"),
    ("the food was bad", -1, "negative"),
    ("the food was not bad", 1, "positive"),
    ("the food was never very good", -2, "negative"),
    ("the food was really awful", -4, "negative"),
    ("the food was slightly great", 1, "positive"),
    ("the food was slightly good", 0.5, None),
    ("the weather was awful", 0, "mixed"),
    ("i said the food was good", 1, "positive"),
    ("nobody thinks the food was good", -1, "negative"),
    ("nobody thinks the food was not good", 1, "positive"),
    ("the food was good and the room was bad", 0, "mixed"),
    ("the food was good and the room was terrible", -1, "negative"),
    ("the food was good and the weather was terrible", 1, "positive"),
    ("the food was good but the room was bad", -1, "negative"),
    ("the food was bad but the room was good", 1, "positive"),
    ("the food was good but the traffic was awful", 0, "mixed"),
    ("the food was good although the room was terrible", 1, "positive"),
    ("the crowd was good although the room was terrible", 0, "mixed"),
    ("the food was good and the room was nice but the view was dull", -1, "negative"),
    ("the food was bad but the room was nice and the view was dull", 0, "mixed"),
    ("the food was bad although the room was nice and the view was dull", -2, "negative"),
    ("the food was bad and the room was nice although the view was superb", 0, "mixed"),
]


@pytest.mark.parametrize(("sentence", "value", "label"), TRUTH)
def test_truth_table(sentence, value, label):
    clauses, connectives = parse(sentence)
    assert review_value(clauses, connectives) == value
    assert review_label(value) == label


@pytest.mark.parametrize("connective", CONNECTIVES)
def test_one_clause_is_its_own_review(connective):
    clause = Clause("", "food", "", "very", "good")
    assert str(clause) == "the food was very good"
    assert review_value([clause], []) == clause_value(clause) == 2


def test_every_label_is_the_meaning_of_its_sentence():
    task = small()
    for table in task.splits.values():
        for row in table.to_pylist():
            clauses, connectives = parse(row["text_0"])
            assert task.classes[row["label"]] == review_label(review_value(clauses, connectives))


def test_splits_share_no_sentence_and_are_balanced():
    task = small(train=3000, validation=600, test=900)
    texts = {name: set(table.column("text_0").to_pylist()) for name, table in task.splits.items()}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    for name, size in (("train", 3000), ("validation", 600), ("test", 900)):
        assert Counter(task.splits[name].column("label").to_pylist()) == dict.fromkeys(range(3), size // 3)


def test_splits_of_different_seeds_share_no_sentence_either():
    first, second = small(seed=0), small(seed=1, train=3000)
    assert not set(first.splits["test"].column("text_0").to_pylist()) & set(
        second.splits["train"].column("text_0").to_pylist()
    )


def test_same_settings_same_rows():
    first, again, other = small(), small(), small(seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert all(first.splits[name].equals(again.splits[name]) for name in first.splits)


def test_first_rows_are_pinned():
    """Python's generator keeps its sequence: another machine must make the same task."""
    assert small().splits["train"].column("text_0").to_pylist()[0] == (
        "the food was slightly horrible and i said the food was slightly pleasant and the price was not awful"
    )


def test_more_training_rows_leave_validation_and_test_alone():
    few, many = small(), small(train=900)
    for split in ("validation", "test"):
        assert few.splits[split].equals(many.splits[split])


@pytest.mark.parametrize("clauses", [1, 2, 3])
def test_clauses_are_the_difficulty(clauses):
    texts = small(clauses=clauses).splits["train"].column("text_0").to_pylist()
    assert max(text.split().count("was") for text in texts) == clauses


def test_sizes_that_do_not_divide_by_three():
    task = small(train=10, validation=1, test=2)
    assert [task.splits[name].num_rows for name in ("train", "validation", "test")] == [10, 1, 2]


def test_interface_is_a_tasks():
    task = small()
    assert (task.name, task.kind.name, task.classes, task.num_labels) == (
        "reviews",
        "classification",
        ("negative", "mixed", "positive"),
        3,
    )
    assert (task.text, task.metric, task.notices) == (("text",), "accuracy", ())


def test_vocabulary_is_every_word_once():
    words = vocabulary()
    assert len(words) == len(set(words)) == 41
    assert words[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tables = (ASPECTS, ADJECTIVES, DEGREES, NEGATIONS, ATTITUDES)
    assert {word for table in tables for key in table for word in key.split()} <= set(words)


def test_tokenizer_knows_every_sentence_and_survives_saving(tmp_path):
    tokenizer = word_tokenizer()
    texts = small().splits["train"].column("text_0").to_pylist()
    ids = tokenizer(texts)["input_ids"]
    assert tokenizer.unk_token_id not in {number for row in ids for number in row}
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in ids)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == texts[0]
    assert tokenizer("the zebra")["input_ids"] == [2, words_id(tokenizer, "the"), 1, 3]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts)["input_ids"] == ids
    assert loaded.pad_token_id == tokenizer.pad_token_id == 0
    assert loaded("the food", "was good")["input_ids"].count(3) == 2


def words_id(tokenizer, word: str) -> int:
    return tokenizer.convert_tokens_to_ids(word)
