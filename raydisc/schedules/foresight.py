"""Foreseeing a schedule: the stages it will ask for, as far as they do not depend on results."""

from collections.abc import Callable
from typing import TypeVar

from raydisc.models.precision import Arithmetic
from raydisc.schedules.search import Schedule
from raydisc.stages.artifact import Artifact, NotYetKnown
from raydisc.stages.base import Stage

Result = TypeVar("Result")


def foresee(
    schedule: Schedule[Result], arithmetic: Arithmetic, find: Callable[[str], Artifact | None]
) -> list[tuple[Stage, Artifact]]:
    """Requests and their artifacts, or promises where they have not been computed.

    Args:
        schedule: a fresh one.
        arithmetic: in which stages will be computed.
        find: a finished stage's artifact by key, or None.
    """
    foreseen: list[tuple[Stage, Artifact]] = []
    try:
        request = next(schedule)
        while True:
            promise = request.promise(arithmetic)
            foreseen.append((request, find(promise.key) or promise))
            request = schedule.send(foreseen[-1][1])
    except (StopIteration, NotYetKnown):
        return foreseen
