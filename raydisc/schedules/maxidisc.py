"""Distillation along every path of the grid (MaxiDisc, arXiv 2205.14570, section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from raydisc.config.schedules import ScheduleOptions
from raydisc.schedules.base import Mark, Schedule, Trial, assistants_beside
from raydisc.schedules.path import along
from raydisc.schedules.steps import Outcome, Steps

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class MaxidiscOptions(ScheduleOptions):
    """Options of ``maxidisc``."""

    assistants: Annotated[int, Field(ge=1, le=3)] = 1
    """The number of assistants on each path."""
    paths: Annotated[int, Field(ge=1)] | None = None
    """The largest number of paths, drawn at random, the same for every seed; null: all of them."""


class Maxidisc(Schedule[MaxidiscOptions]):
    """Every path of the grid, or a sample, each a trial of its own; the best by validation is the oracle path."""

    name = "maxidisc"
    Options = MaxidiscOptions
    title = "MaxiDisc"
    mark = Mark("#0072B2", "^")
    place = 60
    by_default = True
    compared = True
    exhaustive = True

    @property
    def assistants(self) -> int:
        """The number of assistants on each path."""
        return self.options.assistants

    @property
    def stem(self) -> str:
        """The name, and the number of paths that are drawn: the paths themselves stand in the trials' names."""
        return self.name + ("" if self.options.paths is None else f"-paths-{self.options.paths}")

    @classmethod
    def beside(cls, others: Sequence[Schedule[Any]]) -> Maxidisc:
        """Return the schedule with as many assistants as others have."""
        return cls(MaxidiscOptions(assistants=assistants_beside(others)))

    def trials(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make one trial for each path, or for each one that is drawn."""
        paths = list(combinations(above, self.options.assistants))
        most = self.options.paths
        if most is not None and most < len(paths):
            drawn = random.Random(f"{self.options.assistants}/{most}").sample(range(len(paths)), most)
            paths = [paths[place] for place in sorted(drawn)]
        for path in paths:
            yield Trial(self, student_scale, seed, path)

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil along the trial's path."""
        return (yield from along(search, search.path))
