"""The stages that a schedule will ask for, as far as they do not depend on results."""

from collections.abc import Callable
from typing import TypeVar

from raydisc.models.precision import Arithmetic
from raydisc.schedules.steps import Steps
from raydisc.stages.artifact import Artifact, NotYetKnown
from raydisc.stages.base import Stage

Result = TypeVar("Result")


def knowing(artifact: Artifact) -> Callable[[str], Artifact | None]:
    """Return a function that finds one artifact: the tokenised task, with which a run begins to be foreseen."""
    return lambda key: artifact if key == artifact.key else None


def foresee(
    steps: Steps[Result], arithmetic: Arithmetic, find: Callable[[str], Artifact | None]
) -> list[tuple[Stage, Artifact]]:
    """Return the requests of a schedule with their artifacts, or promises of those that have not been computed.

    Args:
        steps: The steps of a trial, none of which has been done.
        arithmetic: How stages will be computed.
        find: Returns a finished stage's artifact by its key, or None. Without the tokenised task little is foreseen,
            since keys depend on the number of its tokens.
    """
    foreseen: list[tuple[Stage, Artifact]] = []
    try:
        request = next(steps)
        while True:
            promise = request.promise(arithmetic)
            foreseen.append((request, find(promise.key) or promise))
            request = steps.send(foreseen[-1][1])
    except (StopIteration, NotYetKnown):
        return foreseen
