"""The rungs of successive halving: where a trial stands, and what a whole ladder of them may cost.

Successive halving is due to Karnin et al. 2013 and Jamieson and Talwalkar 2016 (arXiv 1502.07943).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Rung:
    """The place of a trial in a search by successive halving.

    Attributes:
        arm: The name of the trial's arm.
        budget: The FLOPs that the whole search may cost.
        flops: The FLOPs of the whole arm as if it ran alone, from a finished teacher to its student.
        places: The number of arms that go on to each rung; one on the last.
        number: The rung, from 1.
        shares: The shares of the student's steps after which its training is broken off, up to this rung; the last rung
            ends with 1. Empty where the training is not divided.
    """

    arm: str
    budget: float
    flops: float
    places: tuple[int, ...] = (1,)
    number: int = 1
    shares: tuple[float, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the student is finished here."""
        return self.number == len(self.places)


class Bracket(NamedTuple):
    """The amount that is expected, and the bounds between which it lies."""

    expected: float
    low: float
    high: float

    def __add__(self, other: tuple[float, ...]) -> Bracket:  # type: ignore[override]
        """Return the sums."""
        return Bracket(*(own + more for own, more in zip(self, other, strict=True)))


Amounts = Mapping[str, float]
"""The amounts of the stages that a trial needs, by their keys."""

Ways = Mapping[str, Sequence[Amounts]]
"""For each arm on a rung the amounts of its stages, for each way in which its choices may fall."""


def bracket(rungs: Sequence[tuple[int, Ways]]) -> Bracket:
    """Return the amount of a whole ladder, each distinct stage once, whoever goes on.

    Args:
        rungs: For each rung the number of places, and the arms that may stand there.

    Example:
        >>> first = {"kd": [{"outputs": 5.0, "kd-1": 1.0}], "lr": [{"outputs": 5.0, "lr-1": 1.0}]}
        >>> second = {"kd": [{**first["kd"][0], "kd-2": 2.0}], "lr": [{**first["lr"][0], "lr-2": 3.0}]}
        >>> bracket([(2, first), (1, second)])
        Bracket(expected=9.5, low=9.0, high=10.0)
    """
    whole = Bracket(0.0, 0.0, 0.0)
    known: set[str] = set()
    before: dict[str, Sequence[Amounts]] = {}
    for places, arms in rungs:
        found = []
        for arm, ways in arms.items():
            earlier = before.get(arm, [{}] * len(ways))
            new = [_without(way, seen) for way, seen in zip(ways, earlier, strict=True)]
            if len(arms) <= places:
                sure = set.intersection(*(set(way) for way in new))
                amount = sum(new[0][key] for key in new[0] if key in sure - known)
                whole += (amount,) * 3
                known |= sure
            totals = [sum(_without(way, known).values()) for way in new]
            found.append(Bracket(sum(totals) / len(totals), min(totals), max(totals)))
        before = {**before, **arms}
        expected = min(places, len(found)) * sum(it.expected for it in found) / len(found)
        low, high = sorted(it.low for it in found), sorted((it.high for it in found), reverse=True)
        whole += (expected, sum(low[:places]), sum(high[:places]))
    return whole


def _without(amounts: Amounts, keys: Container[str]) -> dict[str, float]:
    return {key: amount for key, amount in amounts.items() if key not in keys}
