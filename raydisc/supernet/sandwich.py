"""The sandwich rule: the candidates of the supernet that one step trains, and their rows of the batch."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raydisc.config.sections import SandwichConfig
from raydisc.supernet.candidates import Candidate

Rule = Literal["all"] | SandwichConfig
"""``all`` candidates in every step, or the settings by which a few are drawn."""


@dataclass(frozen=True)
class Share:
    """A candidate and the rows of a batch that it is trained on.

    Attributes:
        candidate: The candidate.
        rows: The rows: all of them; a slice of its own where candidates share a batch; or a few, where a step must not
            cost more than one of a smaller candidate.
    """

    candidate: Candidate
    rows: slice | np.ndarray

    @property
    def whole(self) -> bool:
        """Whether it is the whole batch."""
        return isinstance(self.rows, slice) and self.rows == slice(None)


def sandwich(
    candidates: Sequence[Candidate], rule: Rule, chances: Mapping[float, float], seed: int, step: int
) -> list[Share]:
    """Return the candidates that a step trains, largest first (Yu & Huang 2019, arXiv 1903.05134).

    The smallest candidate, which has the student's own scale, is trained in every step. The draw depends on ``seed``
    and ``step`` alone, so that a resumed run draws the same.

    Args:
        candidates: The candidates of the supernet, in any order.
        rule: The rule by which candidates are chosen.
        chances: The relative chance of each scale to be drawn from the middle; the sum need not be 1.
        seed: The seed of the stage.
        step: The number of the step, from 0.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.scale, reverse=True)
    if rule == "all":
        return [Share(candidate, slice(None)) for candidate in ordered]
    always = {ordered[-1].scale} | ({ordered[0].scale} if rule.largest else set())
    middle = [candidate.scale for candidate in ordered if candidate.scale not in always]
    active = always | set(_drawn(middle, chances, rule.middle, random.Random(f"{seed}/{step}")))
    trained = [candidate for candidate in ordered if candidate.scale in active]
    if not rule.slices:
        return [Share(candidate, slice(None)) for candidate in trained]
    # A batch is sorted by length, so that slices of every n-th row have similar lengths. The smallest candidate has the
    # first row, so that it is trained even if the batch has fewer rows than there are candidates.
    count = len(trained)
    return [Share(candidate, slice(count - place, None, count)) for place, candidate in enumerate(trained, start=1)]


def even_rows(count: int, fraction: float) -> slice | np.ndarray:
    """Return a fraction of ``count`` rows, at least one, evenly spread so that rows of all lengths are among them."""
    kept = max(1, round(count * fraction))
    if kept == count:
        return slice(None)
    return (2 * np.arange(kept) + 1) * count // (2 * kept)


def _drawn(scales: Sequence[float], chances: Mapping[float, float], count: int, rng: random.Random) -> list[float]:
    """Return ``count`` different scales, drawn by their chances (Efraimidis & Spirakis 2006)."""
    # The logarithm of u^(1/w), as chances of any magnitude would make the power itself underflow.
    keys = {scale: math.log(1 - rng.random()) / chances[scale] for scale in scales}
    return sorted(scales, key=lambda scale: keys[scale], reverse=True)[:count]
