"""The λ-tradeoff ``t = m + λ (1 - s)`` (arXiv 2205.14570, section 3): ranking, choice, λ sweep.

``m`` is a candidate's validation metric clipped to [0, 1], ``s`` its nominal scale. A language model's metric, the
likelihood of a token, is taken relative to its teacher's: ``m = exp(teacher loss - loss)``. One tie rule holds
everywhere: of candidates with equal tradeoffs the **smaller scale** wins. Tradeoffs that differ by less than
1e-12 are equal, so that rounding of ``0.2 * (1 - 0.3)`` and the like never decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from raydisc.errors import InputError

DEFAULT_LAM = 0.2
DECIMALS = 12


class Scored(Protocol):
    """A candidate that can be ranked: its nominal scale in (0, 1] and its validation metric."""

    @property
    def scale(self) -> float:
        """The nominal scale in (0, 1]."""

    @property
    def metric(self) -> float:
        """The validation metric, not clipped."""

    @property
    def reference(self) -> float:
        """The value that the metric is divided by before it enters the tradeoff (``TaskKind.reference``)."""


@dataclass(frozen=True)
class Measured:
    """A nominal scale in (0, 1], a validation metric that is not clipped, and the reference of the metric."""

    scale: float
    metric: float
    reference: float = 1.0


S = TypeVar("S", bound=Scored)


def clip_metric(metric: float) -> float:
    """Return a metric as it enters the tradeoff: clipped to [0, 1], with 0 for what is not a number."""
    return 0.0 if math.isnan(metric) else min(max(metric, 0.0), 1.0)


def tradeoff(metric: float, scale: float, lam: float, reference: float = 1.0) -> float:
    """Return ``m + λ (1 - s)`` with the metric clipped (arXiv 2205.14570, section 3).

    Args:
        metric: The validation metric; divided by its reference and clipped here.
        scale: The nominal scale ``s`` in (0, 1].
        lam: The weight λ ≥ 0 of smallness against the metric.
        reference: The value that the metric is divided by (``TaskKind.reference``).

    Example:
        >>> tradeoff(metric=0.9, scale=0.3, lam=0.2)
        1.04
    """
    return clip_metric(metric / reference) + lam * (1.0 - scale)


def rank(candidates: Iterable[S], lam: float) -> list[S]:
    """Return candidates from the best tradeoff to the worst; among equals the smaller scale comes first."""
    return sorted(candidates, key=lambda c: (-round(tradeoff(c.metric, c.scale, lam, c.reference), DECIMALS), c.scale))


def choose(candidates: Iterable[S], lam: float, above: float = 0.0, below: float = math.inf) -> S:
    """Return the candidate with the best tradeoff among those with ``above < scale < below``.

    Args:
        candidates: The candidates to choose from.
        lam: The weight λ ≥ 0 of smallness against the metric.
        above: The student's scale: assistants are strictly larger.
        below: The scale of the previous assistant, where several are chosen one after the other.

    Raises:
        InputError: No candidate lies between the two scales.

    Example:
        >>> candidates = [Measured(0.9, 0.91), Measured(0.3, 0.88), Measured(0.1, 0.70)]
        >>> choose(candidates, lam=0.2, above=0.1).scale
        0.3
    """
    ranked = rank((c for c in candidates if above < c.scale < below), lam)
    if not ranked:
        limit = "" if math.isinf(below) else f" and below {below:g}"
        raise InputError(
            f"grid.scales: no candidate lies above scale {above:g}{limit}, so there is no teacher assistant to "
            "choose; add a scale there"
        )
    return ranked[0]


def break_points(scales: Sequence[float], metrics: Sequence[float]) -> list[tuple[float, float, float]]:
    """Return the chosen scale as a function of λ ≥ 0: a step function, at no training cost.

    Args:
        scales: The nominal scales of the candidates.
        metrics: Their validation metrics, divided by the reference, in the same order; clipped here.

    Returns:
        ``(lam_from, lam_to, scale)`` for rising λ, the last with ``lam_to = inf``; the scale is chosen on
        ``lam_from <= λ < lam_to``. At a break point both sides tie and the smaller scale wins, hence the half-open
        intervals. The list is empty without candidates.
    """
    lines = [(scale, clip_metric(metric)) for scale, metric in zip(scales, metrics, strict=True)]
    if not lines:
        return []
    scale, metric = min(lines, key=lambda line: (-round(line[1], DECIMALS), line[0]))
    steps: list[tuple[float, float, float]] = []
    lam = 0.0
    while True:
        # Only smaller scales rise faster with λ; the first of their lines to meet the current one takes over.
        crossings = [(round((metric - m) / (scale - s), DECIMALS), s, m) for s, m in lines if s < scale]
        if not crossings:
            return [*steps, (lam, math.inf, scale)]
        crossing, next_scale, next_metric = min(crossings)
        if crossing > lam:
            steps.append((lam, crossing, scale))
        lam, scale, metric = crossing, next_scale, next_metric
