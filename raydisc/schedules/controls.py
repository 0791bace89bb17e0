"""Controls: KD with one thing of the schedule beside it, without which nothing can be said of that schedule.

A schedule with an assistant differs from KD in the model that the student is distilled from, in the student's initial
weights and in its compute. Each control changes one of them, so that differences between students estimate effects:
``raydisc.schedules.effects`` says which.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from raydisc.config.experiment import Experiment
from raydisc.schedules.base import Choice, Control, Mark, Schedule, Trial
from raydisc.schedules.path import along
from raydisc.schedules.steps import Outcome, Steps, closure, scales_above
from raydisc.stages.artifact import Artifact, Model
from raydisc.tradeoff import DECIMALS

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class KdEqualCompute(Control):
    """KD whose search costs as many FLOPs as its rival's: the same training, stretched, without an early stop."""

    name = "kd_equal_compute"
    title = "KD with equal compute"
    mark = Mark("#CC79A7", "s")
    place = 20

    def run(self, search: Search) -> Steps[Outcome]:
        """Find out what the rival's search costs, and distil the student from the teacher for as much."""
        rival = yield from self.rival.steps(search)
        cost = _flops(rival.own)
        ready = yield from search.prepare()
        return Outcome((yield from search.distil_within(ready, ready.teacher, cost)))


class KdEqualSeconds(Control):
    """KD whose search takes as many seconds as its rival's.

    Steps of a small model use a device worse than those of a large one, so that equal FLOPs may take KD much longer.
    Its steps follow from measured seconds: on another machine, or a busier one, it trains for another number.
    """

    name = "kd_equal_seconds"
    title = "KD with equal seconds"
    mark = Mark("#CC79A7", "D")
    place = 22
    timed = True

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil for the rival's FLOPs, and then again for the share of them that takes the rival's seconds."""
        rival = yield from self.rival.steps(search)
        ready = yield from search.prepare()
        equal = yield from search.distil_within(ready, ready.teacher, _flops(rival.own))
        outputs = [artifact for artifact in rival.own if artifact.key in equal.inputs]
        taken = _seconds([*outputs, equal])
        share = _rounded(_seconds(rival.own) / taken) if taken else 1.0
        if share == 1.0:
            return Outcome(equal)
        return Outcome((yield from search.distil_within(ready, ready.teacher, share * _flops(rival.own))))


class KdFromSupernet(Control):
    """KD from the weights of its rival's supernet, for its rival's FLOPs: only the model distilled from differs."""

    name = "kd_from_supernet"
    title = "KD from the supernet's weights"
    mark = Mark("#56B4E9", "D")
    place = 30

    def is_needed(self, experiment: Experiment, student_scale: float) -> bool:
        """Whether students start from the supernet; else ``kd_equal_compute`` has their initial weights."""
        return experiment.distillation.initialisation != "teacher"

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil from the teacher for what is left of the rival's FLOPs once the first weights are paid."""
        rival = yield from self.rival.steps(search)
        ready = yield from search.prepare()
        start = rival.finalist or rival.supernet
        assert start is not None
        student = yield from search.distil_within(ready, Model(start), _flops(rival.own), _closure(start, rival.own))
        return Outcome(student, (), "supernet", rival.supernet, rival.finalist)


class _FixedAssistant(Control):
    """Distillation by way of one assistant of the grid that nobody chose; it depends on no option of its rival."""

    needs_rival = False

    def stands_for(self, experiment: Experiment, rival: Trial) -> Hashable:
        """Return the student and the seed, on which alone it depends."""
        return rival.seed, rival.student_scale

    @property
    def lam(self) -> float | None:
        """None: nothing is chosen."""
        return None

    @classmethod
    def label_beside(cls, rival: type[Schedule[Any]], label: str) -> str:
        """Return the name alone."""
        return cls.name

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return one empty choice."""
        return (Choice(),)

    __hash__ = Control.__hash__


class TakdSmallest(_FixedAssistant):
    """TAKD by way of the grid's smallest assistant, which costs the least."""

    name = "takd_smallest"
    title = "TAKD by the smallest assistant"
    mark = Mark("#009E73", "<")
    place = 42

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil teacher → smallest assistant → student."""
        return (yield from along(search, (search.assistant_scales[-1],)))


class TakdMiddle(_FixedAssistant):
    """TAKD by way of the assistant half-way to the student on a logarithmic scale."""

    name = "takd_middle"
    title = "TAKD by the middle assistant"
    mark = Mark("#009E73", ">")
    place = 44

    def is_needed(self, experiment: Experiment, student_scale: float) -> bool:
        """Whether that assistant is not the smallest one."""
        above = scales_above(experiment.grid.scales, student_scale)
        return middle_scale(above, student_scale) != above[-1]

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil teacher → the assistant nearest to the root of the student's scale → student."""
        return (yield from along(search, (middle_scale(search.assistant_scales, search.student_scale),)))


class KdFromAssistant(_FixedAssistant):
    """KD from the weights of ``takd_smallest``'s assistant, for its FLOPs: only the model distilled from differs."""

    name = "kd_from_assistant"
    title = "KD from the assistant's weights"
    mark = Mark("#56B4E9", "s")
    place = 32

    def is_needed(self, experiment: Experiment, student_scale: float) -> bool:
        """Whether students start from the assistant; else ``kd_equal_compute`` has their initial weights."""
        return experiment.distillation.initialisation != "teacher"

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil from the teacher for what is left of ``takd_smallest``'s FLOPs once its assistant is paid."""
        takd = yield from TakdSmallest.of(self.rival).steps(search)
        ready = yield from search.prepare()
        assistant = next(artifact for artifact in takd.own if artifact.kind == takd.student.kind)
        student = yield from search.distil_within(
            ready, Model(assistant), _flops(takd.own), _closure(assistant, takd.own)
        )
        return Outcome(student, (), "assistant")


DECISIVE: tuple[type[Control], ...] = (
    KdEqualCompute,
    KdEqualSeconds,
    KdFromSupernet,
    KdFromAssistant,
    TakdSmallest,
    TakdMiddle,
)
"""The controls that decide whether a schedule which chooses its assistant in a supernet pays."""


def middle_scale(above: Sequence[float], student_scale: float) -> float:
    """Return the scale of the grid nearest to ``√student_scale`` on a logarithmic scale; of two the smaller.

    Args:
        above: The scales of the grid above the student's.
        student_scale: The student's scale.

    Example:
        >>> middle_scale((0.9, 0.7, 0.5, 0.3, 0.2), student_scale=0.1)
        0.3
    """
    root = math.sqrt(student_scale)
    return min(above, key=lambda scale: (round(abs(math.log(scale / root)), DECIMALS), scale))


def _closure(artifact: Artifact, own: Iterable[Artifact]) -> list[Artifact]:
    """Return an artifact and those that it was made from, out of a student's own."""
    by_key = {one.key: one for one in own}
    return [by_key[key] for key in closure(by_key, artifact.key)]


def _flops(artifacts: Iterable[Artifact]) -> float:
    return sum(artifact.flops for artifact in artifacts)


def _seconds(artifacts: Iterable[Artifact]) -> float:
    return sum(artifact.cost.device_seconds for artifact in artifacts)


def _rounded(share: float) -> float:
    """Return a share rounded to twentieths, within what clocks can tell apart; at least one of them."""
    return max(1, round(20 * share)) / 20
