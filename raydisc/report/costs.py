"""Search cost: the cost of a student from a finished teacher on, as if its schedule had run alone.

The cost is the sum over the *distinct* stages that the student depends on (its stage and, transitively, the
inputs). A stage found in the store counts as if it had been computed, so a cached stage never makes a
schedule look cheaper; a stage that several trials of a schedule share counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raydisc.stages.kinds import kind_named


@dataclass(frozen=True)
class Cost:
    """An amount of compute; added with ``+``.

    Attributes:
        flops: Executed floating-point operations (analytic, padding included).
        device_seconds: Seconds times devices.
        wall_seconds: Seconds, the stages one after the other.
        cpu_seconds: Seconds of CPU time, all threads.
    """

    flops: float = 0.0
    device_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of two amounts."""
        return Cost(
            self.flops + other.flops,
            self.device_seconds + other.device_seconds,
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
        )


def cost_of(stage: Mapping[str, Any]) -> Cost:
    """Return the cost that a row of the ledger's ``stages`` states; a number that is missing counts 0."""
    return Cost(*(float(stage[field] or 0.0) for field in ("flops", "device_seconds", "wall_seconds", "cpu_seconds")))


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs, which is 0 for an empty collection."""
    return sum(costs, Cost())


class StageGraph:
    """Finished stages by key, with what each depends on."""

    def __init__(self, stages: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of the ledger's ``stages``, one per key; only finished ones are looked at."""
        self.stages = {stage["key"]: stage for stage in stages if stage["state"] == "finished"}

    def closure(self, keys: Iterable[str]) -> set[str]:
        """Return the stages among ``keys`` and all they depend on; inputs that are not stages are left out."""
        found: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key in self.stages and key not in found:
                found.add(key)
                waiting.extend(self.stages[key]["inputs"] or ())
        return found

    def searched(self, keys: Iterable[str]) -> set[str]:
        """Return the part of the closure that belongs to the search (see ``raydisc.stages.kinds``)."""
        return {key for key in self.closure(keys) if kind_named(self.stages[key]["kind"]).searched}

    def search_cost(self, keys: Iterable[str]) -> Cost:
        """Return what the search for these stages costs if nothing was computed before."""
        # Sorted, because floating-point sums depend on the order, which sets do not define.
        return total(cost_of(self.stages[key]) for key in sorted(self.searched(keys)))

    def missing(self, keys: Iterable[str], asked: Iterable[str]) -> set[str]:
        """Return the stages that the search for ``keys`` depends on but whose finished row is not in the ledger.

        An input without a row may be no stage at all (a fingerprint of data or weights), so beside ``keys``
        themselves only those that a trial ``asked`` for as stages are held to be missing.
        """
        keys = list(keys)
        wanted = {name for key in self.closure(keys) for name in self.stages[key]["inputs"] or ()}
        return {key for key in {*keys, *(wanted & set(asked))} if key not in self.stages}
