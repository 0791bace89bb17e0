"""Tags of words: counts of what is right in a row, from which metrics are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raydisc.errors import InputError, on_one_line

OUTSIDE = "O"
UNTAGGED = -1
"""Stands in place of a tag for a word that no token of was read."""

Counts = Callable[[np.ndarray, np.ndarray, Sequence[str]], tuple[int, ...]]
"""Counts for a row, from ``(predicted, given, classes)``; the first two are a class index for each word."""


def right_words(predicted: np.ndarray, given: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the number of words with the right tag, and of words."""
    return int((predicted == given).sum()), len(given)


def right_spans(predicted: np.ndarray, given: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the number of spans found exactly, with their type, of spans predicted, and of spans given."""
    found, wanted = (
        spans([OUTSIDE if tag == UNTAGGED else classes[int(tag)] for tag in it]) for it in (predicted, given)
    )
    return len(found & wanted), len(found), len(wanted)


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return the spans that IOB2 tags mean: first word, the word after the last, type.

    ``B-`` begins a span and ``I-`` continues a span of its type. An ``I-`` without a span to continue begins one, as in
    CoNLL's scorer (Tjong Kim Sang & De Meulder 2003).
    """
    found: set[tuple[int, int, str]] = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, name = tag.partition("-")
        if kind and (mark != "I" or name != kind):
            found.add((start, place, kind))
            kind = ""
        if mark != OUTSIDE and not kind:
            start, kind = place, name
    return found


def check_span_classes(metric: str, classes: Sequence[str]) -> None:
    """Refuse classes that are not IOB2 tags.

    Raises:
        InputError: A class is neither ``O`` nor begins with ``B-`` or ``I-``.
    """
    other = [name for name in classes if name != OUTSIDE and not (name[:2] in ("B-", "I-") and name[2:])]
    if other:
        raise InputError(
            f"task.metric: {metric!r} reads spans from IOB2 tags (O, B-..., I-...), but one of them is "
            f"{on_one_line(other[0])!r}; use token_accuracy, or name the tags in task.classes"
        )


def count_rows(
    count: Counts, predicted: np.ndarray, given: np.ndarray, sizes: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Return the counts of every row.

    Args:
        count: Counts one row.
        predicted: A class index for each word, row after row ``[W]``; NaN where a model gave no finite answer.
        given: The right class indices ``[W]``.
        sizes: Number of words of each row ``[N]``.
        classes: Names of the classes.

    Returns:
        Counts ``[N, K]``, float32; NaN in a row with a NaN, so that the metric is that of a model without answers.
    """
    ends, missing = np.cumsum(sizes)[:-1], np.isnan(predicted)
    rows = zip(np.split(np.where(missing, UNTAGGED, predicted), ends), np.split(given, ends), strict=True)
    counts = np.array([count(mine, right, classes) for mine, right in rows], np.float32)
    counts[[bool(row.any()) for row in np.split(missing, ends)]] = np.nan
    return counts
