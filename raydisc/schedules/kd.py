"""Knowledge distillation without an assistant (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raydisc.config.schedules import ScheduleOptions
from raydisc.schedules.base import Mark, Schedule
from raydisc.schedules.path import along
from raydisc.schedules.steps import Outcome, Steps

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class KdOptions(ScheduleOptions):
    """Options of ``kd``, which has nothing to choose."""


class Kd(Schedule[KdOptions]):
    """Teacher → student, no assistant."""

    name = "kd"
    Options = KdOptions
    title = "KD"
    mark = Mark("#666666", "o")
    place = 10
    by_default = True

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil the student from the teacher."""
        return (yield from along(search, ()))
