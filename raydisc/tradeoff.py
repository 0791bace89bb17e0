"""The λ-tradeoff ``t = m + λ (1 - s)`` (arXiv 2205.14570, section 3): ranking, choice, λ sweep.

``m`` is a candidate's validation metric clipped to [0, 1]. ``s`` is its measured scale, the share of the prunable
parameters that it has; it differs from the nominal one, which is its name, where a scale does not come out in whole
units, as with one or two key/value groups in a layer. A language model's metric, the likelihood of a token, is taken
relative to its teacher's: ``m = exp(teacher loss - loss)``. One tie rule holds everywhere: of candidates with equal
tradeoffs the **smaller nominal scale** wins. Tradeoffs that differ by less than
1e-12 are equal, so that rounding of ``0.2 * (1 - 0.3)`` and the like never decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from raydisc.errors import InputError

DEFAULT_LAM = 0.2
DECIMALS = 12


class Scored(Protocol):
    """A candidate that can be ranked: its scales in (0, 1] and its validation metric."""

    @property
    def scale(self) -> float:
        """The nominal scale in (0, 1]."""

    @property
    def size(self) -> float:
        """The measured scale in (0, 1], which enters the tradeoff."""

    @property
    def metric(self) -> float:
        """The validation metric, not clipped."""

    @property
    def reference(self) -> float:
        """The value that the metric is divided by before it enters the tradeoff (``TaskKind.reference``)."""


@dataclass(frozen=True)
class Measured:
    """A nominal scale in (0, 1], a validation metric that is not clipped, its reference, and the measured scale.

    Without a measured scale the nominal one enters the tradeoff.
    """

    scale: float
    metric: float
    reference: float = 1.0
    measured_scale: float | None = None

    @property
    def size(self) -> float:
        """The scale that enters the tradeoff."""
        return self.scale if self.measured_scale is None else self.measured_scale


S = TypeVar("S", bound=Scored)


def clip_metric(metric: float) -> float:
    """Return a metric as it enters the tradeoff: clipped to [0, 1], with 0 for what is not a number."""
    return 0.0 if math.isnan(metric) else min(max(metric, 0.0), 1.0)


def tradeoff(metric: float, scale: float, lam: float, reference: float = 1.0) -> float:
    """Return ``m + λ (1 - s)`` with the metric clipped (arXiv 2205.14570, section 3).

    Args:
        metric: The validation metric; divided by its reference and clipped here.
        scale: The scale ``s`` in (0, 1], the measured one where it is known.
        lam: The weight λ ≥ 0 of smallness against the metric.
        reference: The value that the metric is divided by (``TaskKind.reference``).

    Example:
        >>> tradeoff(metric=0.9, scale=0.3, lam=0.2)
        1.04
    """
    return clip_metric(metric / reference) + lam * (1.0 - scale)


def rank(candidates: Iterable[S], lam: float) -> list[S]:
    """Return candidates from the best tradeoff to the worst; among equals the smaller scale comes first."""
    return sorted(candidates, key=lambda c: (-round(tradeoff(c.metric, c.size, lam, c.reference), DECIMALS), c.scale))


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


def break_points(candidates: Iterable[Scored]) -> list[tuple[float, float, float]]:
    """Return the chosen scale as a function of λ ≥ 0: a step function, at no training cost.

    Args:
        candidates: The candidates to choose from.

    Returns:
        ``(lam_from, lam_to, scale)`` for rising λ, the last with ``lam_to = inf``; the nominal scale is chosen on
        ``lam_from <= λ < lam_to``. At a break point both sides tie and the smaller scale wins, hence the half-open
        intervals. The list is empty without candidates.

    Example:
        >>> break_points([Measured(0.8, 0.9), Measured(0.4, 0.7)])
        [(0.0, 0.5, 0.8), (0.5, inf, 0.4)]
    """
    lines = [(c.size, clip_metric(c.metric / c.reference), c.scale) for c in candidates]
    if not lines:
        return []
    size, metric, scale = min(lines, key=lambda line: (-round(line[1], DECIMALS), line[0], line[2]))
    steps: list[tuple[float, float, float]] = []
    lam = 0.0
    while True:
        # Only smaller sizes rise faster with λ; the first of their lines to meet the current one takes over.
        crossings = [
            (round((metric - m) / (size - its_size), DECIMALS), its_size, its_scale, m)
            for its_size, m, its_scale in lines
            if its_size < size
        ]
        if not crossings:
            return [*steps, (lam, math.inf, scale)]
        crossing, next_size, next_scale, next_metric = min(crossings)
        if crossing > lam:
            steps.append((lam, crossing, scale))
        lam, size, scale, metric = crossing, next_size, next_scale, next_metric
