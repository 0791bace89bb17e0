"""The steps of a schedule: what it asks for, and what it ends with."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from raydisc.stages.artifact import Artifact

if TYPE_CHECKING:
    from raydisc.stages.base import Stage

Result = TypeVar("Result")

Steps = Generator["Stage", Artifact, Result]
"""The steps of a schedule: it yields a stage that it asks for, is sent the stage's artifact, and returns a result."""


@dataclass(frozen=True)
class Outcome:
    """The result of a schedule.

    Attributes:
        student: The distilled student's artifact.
        path: The scales of its assistants in order; empty without any.
        initialisation: The model that the student was cut from: ``teacher``, ``assistant``, ``supernet``, or
            ``student`` for an earlier model of the student's own scale.
        supernet: The once-for-all artifact, if there is one; of several the last in which a choice was made.
        finalist: The artifact of that supernet after the chosen candidate was trained on alone, if it was; the student
            begins with its weights.
        own: The artifacts that the student and the supernet depend on, those of the preparation left out, in the order
            in which they were first asked for; the student is the last. Filled in by ``Schedule.steps``.

    Example:
        >>> student = Artifact(key="3fb2", kind="distil")
        >>> outcome = Outcome(student, path=(0.5,), initialisation="assistant")
        >>> outcome.student.kind, outcome.path
        ('distil', (0.5,))
    """

    student: Artifact
    path: tuple[float, ...] = ()
    initialisation: str = "teacher"
    supernet: Artifact | None = None
    finalist: Artifact | None = None
    own: tuple[Artifact, ...] = ()


def noted(steps: Steps[Result]) -> Steps[tuple[Result, list[Artifact]]]:
    """Do steps, and return their result with the artifacts that they asked for, each once."""
    asked: dict[str, Artifact] = {}
    try:
        request = next(steps)
        while True:
            artifact = yield request
            asked.setdefault(artifact.key, artifact)
            request = steps.send(artifact)
    except StopIteration as end:
        return end.value, list(asked.values())


def scales_above(scales: Sequence[float], student_scale: float) -> tuple[float, ...]:
    """Return the scales of a grid above a student's, in the grid's order."""
    return tuple(scale for scale in scales if scale > student_scale)


def closure(artifacts: Mapping[str, Artifact], key: str) -> set[str]:
    """Return the keys of the artifacts that one depends on, its own included, as far as they are known.

    Args:
        artifacts: The known artifacts by key.
        key: The key of one of them.
    """
    found: set[str] = set()
    waiting = [key]
    while waiting:
        key = waiting.pop()
        if key in artifacts and key not in found:
            found.add(key)
            waiting.extend(artifacts[key].inputs)
    return found
