"""The rule by which arms go on to the next rung; the source of a recommendation and its page share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shown:
    """The result of an arm on a rung.

    Attributes:
        arm: The name of the arm.
        metric: Its validation metric.
        resampled: The metric on resamples of the validation examples, ``[B]``, the same for all arms; None without
            predictions.
    """

    arm: str
    metric: float
    resampled: np.ndarray | None


def alike(shown: Sequence[Shown]) -> list[str]:
    """Return the arms that cannot be told from the best: at most one standard error of the difference behind it.

    Args:
        shown: What the arms have shown, in the order of the prior.
    """
    best = max(shown, key=lambda it: it.metric)
    return [it.arm for it in shown if it.metric >= best.metric - error_of_difference(best, it)]


def error_of_difference(one: Shown, other: Shown) -> float:
    """Return the standard error of the difference of two arms over the validation examples; 0 where it is not known."""
    if one is other or one.resampled is None or other.resampled is None:
        return 0.0
    return float((one.resampled - other.resampled).std(ddof=1))


def survivors(shown: Sequence[Shown], places: int) -> list[str]:
    """Return the arms that go on: those that cannot be told from the best by the prior, then others by their metric.

    Args:
        shown: What the arms have shown, in the order of the prior.
        places: The most arms that go on.
    """
    if not shown:
        return []
    first = alike(shown)
    others = sorted((it for it in shown if it.arm not in first), key=lambda it: -it.metric)
    return [*first, *(it.arm for it in others)][:places]
