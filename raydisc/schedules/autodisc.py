"""Assistants that are chosen one after the other, until the tradeoff chooses the student's own scale (AutoDisc).

AutoDisc is the first name of MiniDisc (arXiv 2205.14570, version 1). The rule by which the search ends is that of the
released code, whose stop criterion is the student's scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Lam
from raydisc.schedules.base import Choice, Mark, Schedule
from raydisc.schedules.controls import DECISIVE
from raydisc.schedules.minidisc import metrics_choosing
from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.tradeoff import DEFAULT_LAM, Measured, choose

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class AutodiscOptions(ScheduleOptions):
    """Options of ``autodisc``."""

    lam: Lam = DEFAULT_LAM
    """λ of the tradeoff ``m + λ(1 - s)``."""
    max_assistants: Annotated[int, Field(ge=1, le=5)] = 3
    """The largest number of assistants; the search may end with fewer, or with none."""


class Autodisc(Schedule[AutodiscOptions]):
    """Repeat supernet → choice below the last assistant, until the student's own scale is chosen; then distil it."""

    name = "autodisc"
    Options = AutodiscOptions
    title = "AutoDisc"
    mark = Mark("#E69F00", "P")
    place = 52
    assistants = 1
    controls = DECISIVE

    @property
    def lam(self) -> float:
        """λ of the choices."""
        return self.options.lam

    def run(self, search: Search) -> Steps[Outcome]:
        """Train the scales below the last assistant once for all, and choose among them and the student's own.

        The candidates of each supernet are cut from the last assistant and trained towards it. Every supernet is
        trained to the end before its choice. A supernet that chooses the student's scale leaves its weights to the
        student, which is distilled from the last assistant, or from the teacher where there is none.
        """
        ready = yield from search.prepare()
        teacher, supernet = ready.teacher, None
        path: tuple[float, ...] = ()
        while len(path) < self.options.max_assistants and (left := _below(search.assistant_scales, path)):
            supernet = yield from search.once_for_all(ready, left, teacher=teacher)
            scale = choose(SupernetFacts.of(supernet).candidates, self.lam).scale
            if scale == search.student_scale:
                break
            teacher, path = Model(supernet, scale), (*path, scale)
        start = ready.teacher if search.from_teacher or supernet is None else Model(supernet)
        student = yield from search.distil(ready, teacher, start, search.student_scale)
        return Outcome(student, path, "teacher" if start == ready.teacher else "supernet", supernet)

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return all paths that some metrics lead to, the longest from the largest assistant first."""
        *above, student = scales
        paths = [path for count in range(self.options.max_assistants + 1) for path in combinations(above, count)]
        found = [Choice(path, metrics_choosing((*path, student), self.lam)) for path in sorted(paths, reverse=True)]
        return [choice for choice in found if self._path(choice, scales) == choice.path]

    def _path(self, choice: Choice, scales: Sequence[float]) -> tuple[float, ...]:
        """Return the path that a choice's metrics lead to."""
        path: tuple[float, ...] = ()
        metrics = dict(choice.metrics)
        while len(path) < self.options.max_assistants and len(left := _below(scales, path)) > 1:
            scale = choose([Measured(it, metrics.get(it, 0.0)) for it in left], self.lam).scale
            if scale == scales[-1]:
                break
            path = (*path, scale)
        return path


def _below(scales: Iterable[float], path: Sequence[float]) -> tuple[float, ...]:
    """Return the scales below the last of a path."""
    return tuple(scale for scale in scales if not path or scale < path[-1])
