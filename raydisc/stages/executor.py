"""Executing requests: find a finished stage, or compute it once and keep it."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from raydisc.errors import OutOfMemory, Stopped
from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.store import ArtifactStore
from raydisc.storage.folder import Held
from raydisc.training.loop import Stops, never
from raydisc.training.progress import Event, Notice, Progress, StepsDone, step_of

_ASK_EVERY_S = 0.5
"""Between two looks whether another process has done with a stage."""

Outcome = TypeVar("Outcome")
Schedule = Generator[Stage, Artifact, Outcome]
"""Asks for stages, is sent their artifacts, returns an outcome."""

OnStage = Callable[[Stage, Artifact, bool], None]
"""Called for every stage that a schedule asked for, with its artifact and whether it was there already."""


@dataclass(frozen=True)
class StageEvent:
    """An event of a running stage, with the stage.

    Attributes:
        stage: The kind of the stage.
        key: Its key.
        event: The event.
    """

    stage: str
    key: str
    event: Event

    @property
    def step(self) -> int | None:
        """The number of steps done; None where the event reports none."""
        return step_of(self.event)


OnEvent = Callable[[StageEvent], None]
"""Takes the events of running stages; called at every step, so that it must be cheap."""

Workers = Callable[[Stage, Artifact, Progress, int], Artifact]
"""Compute a stage and keep it, with each batch cut into that number of parts: a ``Worker``, or several."""


def driven(schedule: Schedule[Outcome], execute: Callable[[Stage], Artifact]) -> Outcome:
    """Give a schedule the artifact of everything it asks for; what it ends with."""
    try:
        request = next(schedule)
        while True:
            request = schedule.send(execute(request))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


class Executor:
    """Sees to it that the stages of schedules are there.

    Args:
        store: The artifacts.
        workers: Compute the stages that are not there yet.
        arithmetic: The arithmetic that they compute in, which enters keys.
        progress: Takes the events of the running stage.
        on_stage: Called for every finished stage.
        stops: Whether no further stage is to be computed.
    """

    def __init__(
        self,
        store: ArtifactStore,
        workers: Workers,
        arithmetic: Arithmetic,
        progress: OnEvent,
        on_stage: OnStage,
        stops: Stops = never,
    ) -> None:
        """See the class."""
        self.store, self._workers, self._stops = store, workers, stops
        self._arithmetic, self._progress, self._on_stage = arithmetic, progress, on_stage

    def execute(self, request: Stage) -> Artifact:
        """Find a stage's artifact, wait for it while another process computes the stage, or compute it here.

        Raises:
            OutOfMemory: The stage needs more memory than there is, also with the smallest micro-batches.
            Stopped: The stage is not computed yet, and this process was asked to stop.
        """
        promise = request.promise(self._arithmetic)
        artifact = self.store.find(promise.key)
        if artifact is None:
            with self._holding(request, promise):
                artifact = self.store.find(promise.key)
                if artifact is None:
                    artifact = self._compute(request, promise)
                    # recorded while the key is held, so that no process finds an artifact that the ledger lacks
                    self._on_stage(request, artifact, False)
                    return artifact
        self._on_stage(request, artifact, True)
        return artifact

    @contextmanager
    def _holding(self, request: Stage, promise: Artifact) -> Iterator[None]:
        """Hold a stage's key; while another process computes the stage, say that this one is alive and waits."""
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self.store.holding(promise.key, wait=False))
                    break
                except Held:
                    self._progress(StageEvent(request.kind, promise.key, StepsDone(0)))
                if self._stops():
                    raise Stopped(f"{request.kind}: stopped while another process computed it")
                time.sleep(_ASK_EVERY_S)
            yield

    def run(self, schedule: Schedule[Outcome]) -> Outcome:
        """Execute everything that a schedule asks for."""
        return driven(schedule, self.execute)

    def _compute(self, request: Stage, promise: Artifact) -> Artifact:
        def progress(event: Event) -> None:
            self._progress(StageEvent(request.kind, promise.key, event))

        if self._stops():
            raise Stopped(f"{request.kind}: stopped before its first step")
        progress(StepsDone(0))
        micro_batches = 1
        while True:
            try:
                return self._workers(request, promise, progress, micro_batches)
            except OutOfMemory as error:
                rows, full = request.batch_size, str(error)
            if micro_batches >= rows:
                raise OutOfMemory(_no_room(request, full, micro_batches))
            micro_batches = min(2 * micro_batches, rows)
            progress(Notice(f"{request.kind}: out of memory; batches are cut in {micro_batches}"))


def _no_room(request: Stage, full: str, micro_batches: int) -> str:
    tried = f", also with batches of {request.batch_size} cut in {micro_batches}" if micro_batches > 1 else ""
    return (
        f"{request.kind}: out of memory{tried} ({full}); run fewer trials at once (resources.trials), give each more "
        "workers (resources.workers), or have it keep less (resources.checkpointing)"
    )
