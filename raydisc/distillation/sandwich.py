"""The sandwich rule: which candidates of the supernet one step trains."""

import random
from collections.abc import Sequence

from raydisc.supernet.grid import Candidate

Sandwich = str | int
"""``all`` candidates (the paper's code), or how many random ones between the largest and the smallest."""


def sandwich(candidates: Sequence[Candidate], rule: Sandwich, seed: int, step: int) -> list[Candidate]:
    """The candidates that step ``step`` trains, largest first (Yu & Huang 2019, arXiv 1903.05134).

    The draw depends on ``seed`` and ``step`` alone, so that a resumed run draws the same.

    Args:
        candidates: of the supernet, in any order.
        rule: ``all``, or the number of candidates drawn between the largest and the smallest.
        seed: of the stage.
        step: counted from 0.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.scale, reverse=True)
    if rule == "all" or len(ordered) <= 2:
        return ordered
    middle = ordered[1:-1]
    drawn = random.Random(f"{seed}/{step}").sample(range(len(middle)), min(int(rule), len(middle)))
    return [ordered[0], *(middle[index] for index in sorted(drawn)), ordered[-1]]
