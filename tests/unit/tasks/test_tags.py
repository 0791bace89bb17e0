"""What of words' tags is right: exact spans and single tags, counted in each row."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from raydisc.errors import InputError
from raydisc.tasks.metrics import metric, standard_error
from raydisc.tasks.tags import UNTAGGED, check_span_classes, count_rows, spans

CLASSES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {(0, 2, "PER"), (3, 4, "LOC")}),
        ("B-PER B-PER I-PER", {(0, 1, "PER"), (1, 3, "PER")}),
        ("B-PER I-LOC", {(0, 1, "PER"), (1, 2, "LOC")}),
        ("O I-PER I-PER", {(1, 3, "PER")}),
        ("I-LOC I-PER", {(0, 1, "LOC"), (1, 2, "PER")}),
        ("B-PER O I-PER", {(0, 1, "PER"), (2, 3, "PER")}),
        ("B-e-mail I-e-mail", {(0, 2, "e-mail")}),
        ("", set()),
    ],
)
def test_spans_of_iob2(tags, expected):
    assert spans(tags.split()) == expected


def counted(name, predicted, given):
    sizes = np.array([len(row.split()) for row in given])
    indices = [np.array([CLASSES.index(tag) for row in rows for tag in row.split()]) for rows in (predicted, given)]
    return count_rows(metric(name).counts, indices[0].astype(np.float32), indices[1], sizes, CLASSES)


GIVEN = ["B-PER I-PER O", "O B-LOC", "O"]
PREDICTED = ["B-PER I-PER B-LOC", "O B-PER", "O"]


def test_a_span_counts_with_its_borders_and_its_type():
    """Found 3, given 2, right 1."""
    counts = counted("span_f1", PREDICTED, GIVEN)
    assert counts.tolist() == [[1, 2, 1], [0, 1, 1], [0, 0, 0]]
    assert metric("span_f1").value(counts, np.full(3, np.nan)) == pytest.approx(2 * 1 / (3 + 2))


def test_a_part_of_a_span_is_none():
    assert counted("span_f1", ["B-PER O O"], GIVEN[:1]).tolist() == [[0, 1, 1]]


def test_words_count_once_each():
    counts = counted("token_accuracy", PREDICTED, GIVEN)
    assert counts.tolist() == [[2, 3], [1, 2], [1, 1]]
    words = [" ".join(rows).split() for rows in (GIVEN, PREDICTED)]
    assert metric("token_accuracy").value(counts, np.full(3, np.nan)) == pytest.approx(accuracy_score(*words))


def test_a_word_without_a_tag_is_wrong():
    predicted, given = np.array([1, 2, UNTAGGED], np.float32), np.array([1, 2, 0])
    for name, expected in (("token_accuracy", [2, 3]), ("span_f1", [1, 1, 1])):
        assert count_rows(metric(name).counts, predicted, given, np.array([3]), CLASSES).tolist() == [expected]


def test_a_model_without_a_finite_answer_scores_zero():
    given, sizes = np.array([1, 2, 0]), np.array([2, 1])
    for name in ("token_accuracy", "span_f1"):
        counts = count_rows(metric(name).counts, np.array([1, 2, np.nan]), given, sizes, CLASSES)
        assert np.isnan(counts).tolist() == [[False] * counts.shape[1], [True] * counts.shape[1]]
        assert metric(name).value(counts, np.full(2, np.nan)) == 0.0


def test_standard_errors_draw_rows_with_all_their_words():
    """Words of a row stand and fall together: the error is that of a ratio of sums, not of independent words."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 15, 300)
    right = np.where(rng.random(300) < 0.7, sizes, 0)
    counts, ratio = np.column_stack([right, sizes]).astype(float), right.sum() / sizes.sum()
    expected = np.std(right - ratio * sizes) / sizes.mean() / np.sqrt(300)  # the delta method
    assert standard_error(metric("token_accuracy"), counts, np.full(300, np.nan)) == pytest.approx(expected, rel=0.1)


def test_classes_that_are_no_iob2_tags_are_refused():
    check_span_classes("span_f1", CLASSES)
    for classes in (("O", "PER"), ("0", "1"), ("O", "B-")):
        wrong = classes[1].replace("1", "0")
        with pytest.raises(InputError, match=rf"IOB2 tags \(O, B-..., I-...\), but one of them is '{wrong}'; use"):
            check_span_classes("span_f1", classes)
