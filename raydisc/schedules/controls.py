"""Controls: KD with one thing of the schedule beside it, without which nothing can be said of that schedule."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol, cast

from raydisc.config.experiment import Experiment
from raydisc.schedules.base import Control, Mark, Trial
from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Artifact, Model

if TYPE_CHECKING:
    from raydisc.schedules.search import Ready, Search


class KdEqualCompute(Control):
    """KD whose search costs as many FLOPs as its rival's: the same training, stretched, without an early stop."""

    name = "kd_equal_compute"
    title = "KD with equal compute"
    mark = Mark("#CC79A7", "s")
    place = 20

    def run(self, search: Search) -> Steps[Outcome]:
        """Find out what the rival's search costs, and distil the student from the teacher for as much."""
        rival = yield from self.rival.steps(search)
        cost = sum(artifact.flops for artifact in rival.own)
        ready = yield from search.prepare()
        student = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale, budget_flops=cost)
        return Outcome(student)


class Supernetted(Protocol):
    """A schedule that trains a supernet."""

    def supernet(self, search: Search, ready: Ready) -> Steps[Artifact]:
        """Ask for the supernet."""
        ...

    def contest(self, experiment: Experiment, student_scale: float) -> Hashable:
        """Return what the supernet is trained for."""
        ...


class KdSupernetInit(Control):
    """KD whose student is cut from its rival's supernet: the same first weights, no assistant."""

    name = "kd_supernet_init"
    title = "KD from the supernet"
    mark = Mark("#56B4E9", "D")
    place = 30

    def is_needed(self, experiment: Experiment) -> bool:
        """Whether students start from the supernet; else KD has their first weights anyway."""
        return experiment.distillation.initialisation != "teacher"

    def stands_for(self, experiment: Experiment, rival: Trial) -> Hashable:
        """Return what the supernet is trained for: rivals that share one need one control."""
        return rival.seed, rival.student_scale, self._supernetted.contest(experiment, rival.student_scale)

    def run(self, search: Search) -> Steps[Outcome]:
        """Train the rival's supernet, cut the student from it, and distil it from the teacher."""
        ready = yield from search.prepare()
        supernet = yield from self._supernetted.supernet(search, ready)
        student = yield from search.distil(ready, ready.teacher, Model(supernet), search.student_scale)
        return Outcome(student, (), "supernet", supernet)

    @property
    def _supernetted(self) -> Supernetted:
        return cast(Supernetted, self.rival)
