"""Tags of words: what of them is right in a row, in counts that metrics are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raydisc.errors import InputError, on_one_line

OUTSIDE = "O"
UNTAGGED = -1
"""In the place of a tag: the word was given none, since none of its tokens was read."""

Counts = Callable[[np.ndarray, np.ndarray, Sequence[str]], tuple[int, ...]]
"""What is counted in a row: `(predicted, given, classes)`, of which the first two are a class index for each word."""


def right_words(predicted: np.ndarray, given: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Words with the right tag, and words."""
    return int((predicted == given).sum()), len(given)


def right_spans(predicted: np.ndarray, given: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Spans found exactly, with their type; spans predicted; spans given."""
    found, wanted = (
        spans([OUTSIDE if tag == UNTAGGED else classes[int(tag)] for tag in it]) for it in (predicted, given)
    )
    return len(found & wanted), len(found), len(wanted)


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """The spans that IOB2 tags mean: first word, the word behind the last, type.

    `B-` begins a span and `I-` goes on with one of its type. An `I-` that has none to go on with begins one, as CoNLL's
    scorer reads it (Tjong Kim Sang & De Meulder 2003).
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
    """Refuses classes that are no IOB2 tags.

    Raises:
        InputError: One of them is neither `O` nor begins with `B-` or `I-`.
    """
    other = [name for name in classes if name != OUTSIDE and not (name[:2] in ("B-", "I-") and name[2:])]
    if other:
        raise InputError(
            f"task.metric: {metric!r} reads spans from IOB2 tags (O, B-..., I-...), but {on_one_line(other[0])!r} is "
            "none; use token_accuracy, or name the tags in task.classes"
        )


def count_rows(
    count: Counts, predicted: np.ndarray, given: np.ndarray, sizes: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """What is counted in every row.

    Args:
        count: Of one row.
        predicted: A class index for each word, row after row `[W]`; NaN where a model's answer was none.
        given: The right ones `[W]`.
        sizes: Words of each row `[N]`.
        classes: Their names.

    Returns:
        `[N, K]` float32; NaN in a row with a NaN, so that its metric is that of a model without answers.
    """
    ends, missing = np.cumsum(sizes)[:-1], np.isnan(predicted)
    rows = zip(np.split(np.where(missing, UNTAGGED, predicted), ends), np.split(given, ends), strict=True)
    counts = np.array([count(mine, right, classes) for mine, right in rows], np.float32)
    counts[[bool(row.any()) for row in np.split(missing, ends)]] = np.nan
    return counts
