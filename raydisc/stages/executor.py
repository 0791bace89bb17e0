"""Executing requests: find a finished stage, or compute it once and keep it."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import torch

from raydisc.distillation.loop import Progress, Stops, never
from raydisc.errors import Stopped
from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact
from raydisc.stages.compute import Worker
from raydisc.stages.requests import Request
from raydisc.stages.store import ArtifactStore

Outcome = TypeVar("Outcome")
Schedule = Generator[Request, Artifact, Outcome]
"""Asks for stages, is sent their artifacts, returns an outcome."""

OnStage = Callable[[Request, Artifact, bool], None]
"""Told of every stage that a schedule asked for: the request, its artifact, and whether it was there already."""

Workers = Callable[[Request, Artifact, Progress], Artifact]
"""Compute a stage and keep it: ``stages.compute.Worker``, or several of them."""


def driven(schedule: Schedule[Outcome], execute: Callable[[Request], Artifact]) -> Outcome:
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
        store: artifacts, found and kept.
        device: to compute on, in this process.
        arithmetic: how to compute; it enters keys.
        progress: told of the running stage, with its ``stage`` and ``key``.
        on_stage: told of every finished stage.
        checkpoint_every_s: seconds between checkpoints.
        workers: who computes instead of this process.
        stops: whether no further stage is to be computed, and a running one is to stop.
    """

    def __init__(
        self,
        store: ArtifactStore,
        device: torch.device,
        arithmetic: Arithmetic,
        progress: Progress,
        on_stage: OnStage,
        checkpoint_every_s: float = 60.0,
        workers: Workers | None = None,
        stops: Stops = never,
    ) -> None:
        """See the class."""
        self.store = store
        self._arithmetic, self._progress, self._on_stage = arithmetic, progress, on_stage
        self._stops = stops
        self._workers = workers or Worker(store, device, arithmetic.precision, checkpoint_every_s, stops=stops)

    def execute(self, request: Request) -> Artifact:
        """The stage's artifact: found, waited for while another process computes it, or computed here.

        Raises:
            Stopped: it is not there, and this process was asked to stop.
        """
        promise = request.promise(self._arithmetic)
        artifact = self.store.find(promise.key)
        if artifact is None:
            with self.store.holding(promise.key):
                artifact = self.store.find(promise.key)
                if artifact is None:
                    artifact = self._compute(request, promise)
                    # told while the key is held, so that nobody finds an artifact of which nothing is told yet
                    self._on_stage(request, artifact, False)
                    return artifact
        self._on_stage(request, artifact, True)
        return artifact

    def run(self, schedule: Schedule[Outcome]) -> Outcome:
        """Execute everything that a schedule asks for."""
        return driven(schedule, self.execute)

    def _compute(self, request: Request, promise: Artifact) -> Artifact:
        def progress(state: dict[str, Any]) -> None:
            self._progress({"stage": request.kind, "key": promise.key, **state})

        if self._stops():
            raise Stopped(f"{request.kind}: stopped before its first step")
        progress({"step": 0})
        return self._workers(request, promise, progress)
