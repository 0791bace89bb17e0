"""Distillation along given assistants, which several schedules share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Model

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


def along(search: Search, path: tuple[float, ...]) -> Steps[Outcome]:
    """Distil teacher → assistants → student, each cut from the model that it is trained towards.

    Args:
        search: The trial's search.
        path: The scales of the assistants in order; empty for KD.
    """
    ready = yield from search.prepare()
    teacher = ready.teacher
    for scale in (*path, search.student_scale):
        start = ready.teacher if search.from_teacher else teacher
        teacher = Model((yield from search.distil(ready, teacher, start, scale)))
    initialisation = "assistant" if path and not search.from_teacher else "teacher"
    return Outcome(teacher.artifact, path, initialisation)
