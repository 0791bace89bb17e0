"""The sandwich rule: which candidates of the supernet one step trains, and on which rows of its batch."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raydisc.config.sections import SandwichConfig
from raydisc.supernet.candidates import Candidate

Rule = Literal["all"] | SandwichConfig
"""``all`` candidates in every step (the paper's code), or how a few are drawn."""


@dataclass(frozen=True)
class Share:
    """What one candidate trains on in a step.

    Attributes:
        candidate: it.
        rows: of the batch; each is a slice of its own where the rule shares a batch out, some where a step may cost
            no more than a smaller candidate's.
    """

    candidate: Candidate
    rows: slice | np.ndarray

    @property
    def whole(self) -> bool:
        """Whether it is the batch as it is."""
        return isinstance(self.rows, slice) and self.rows == slice(None)


def sandwich(
    candidates: Sequence[Candidate], rule: Rule, chances: Mapping[float, float], seed: int, step: int
) -> list[Share]:
    """The candidates that step ``step`` trains, largest first (Yu & Huang 2019, arXiv 1903.05134).

    The smallest, which is the student's own scale, is trained in every step. The draw depends on ``seed`` and
    ``step`` alone, so that a resumed run draws the same.

    Args:
        candidates: of the supernet, in any order.
        rule: which.
        chances: for each scale how likely it is drawn from the middle; the sum need not be 1.
        seed: of the stage.
        step: counted from 0.
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
    # Every n-th row: a batch is sorted by length, so its slices are of like lengths. The smallest candidate has the
    # first row: where a batch has fewer rows than there are candidates, it does not go without.
    count = len(trained)
    return [Share(candidate, slice(count - place, None, count)) for place, candidate in enumerate(trained, start=1)]


def even_rows(count: int, fraction: float) -> slice | np.ndarray:
    """A fraction of ``count`` rows, rounded, at least one, evenly spread: of a batch by length, rows of all lengths."""
    kept = max(1, round(count * fraction))
    if kept == count:
        return slice(None)
    return (2 * np.arange(kept) + 1) * count // (2 * kept)


def _drawn(scales: Sequence[float], chances: Mapping[float, float], count: int, rng: random.Random) -> list[float]:
    """``count`` different scales by their chances (Efraimidis & Spirakis 2006), which may be of any magnitude."""
    # the logarithm of u^(1/w), since chances may be of any size
    keys = {scale: math.log(1 - rng.random()) / chances[scale] for scale in scales}
    return sorted(scales, key=lambda scale: keys[scale], reverse=True)[:count]
