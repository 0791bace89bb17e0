"""Span F1 and standard errors beside those of libraries that are known for them: seqeval and scipy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import f1_score

from raydisc.tasks.metrics import metric, standard_error
from raydisc.tasks.tags import count_rows, right_spans

CLASSES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
_TAGS = st.sampled_from(CLASSES)
_SENTENCES = st.lists(st.lists(st.tuples(_TAGS, _TAGS), min_size=1, max_size=8), min_size=1, max_size=4)


@given(_SENTENCES)
def test_span_f1_is_seqevals(sentences: list[list[tuple[str, str]]]) -> None:
    expected = f1_score(
        [[right for _, right in sentence] for sentence in sentences],
        [[mine for mine, _ in sentence] for sentence in sentences],
        average="micro",
        zero_division=0,
    )
    predicted, right = (
        np.array([float(CLASSES.index(pair[side])) for sentence in sentences for pair in sentence]) for side in (0, 1)
    )
    counts = count_rows(right_spans, predicted, right, np.array([len(sentence) for sentence in sentences]), CLASSES)
    assert metric("span_f1").value(counts, right) == pytest.approx(expected)


def classified(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(2, size=120)
    return np.stack([1 - labels, labels], axis=1) + rng.normal(size=(120, 2)), labels


def regressed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.normal(size=120)
    return labels + rng.normal(size=120), labels


@pytest.mark.parametrize(
    ("name", "made"),
    [("accuracy", classified), ("f1", classified), ("matthews", classified), ("pearson", regressed)],
)
def test_standard_errors_are_scipys(
    name: str, made: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
) -> None:
    predictions, labels = made(np.random.default_rng(0))
    measure = metric(name)

    def on(rows: np.ndarray) -> float:
        return measure.value(predictions[rows], labels[rows])

    rows = np.arange(len(labels))
    expected = stats.bootstrap((rows,), on, n_resamples=1000, vectorized=False, method="percentile", rng=0)
    assert standard_error(measure, predictions, labels) == pytest.approx(expected.standard_error, rel=0.1)
