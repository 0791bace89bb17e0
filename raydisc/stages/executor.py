"""Executing requests: find a finished stage, or compute it once and keep it."""

import ctypes
import ctypes.util
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import torch

from raydisc.distillation.loop import Progress
from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.context import Compute, Context
from raydisc.stages.distil import compute_distil
from raydisc.stages.evaluation import compute_evaluate
from raydisc.stages.finetune import compute_finetune
from raydisc.stages.importance import compute_importance
from raydisc.stages.once_for_all import compute_once_for_all
from raydisc.stages.requests import Request
from raydisc.stages.store import ArtifactStore
from raydisc.stages.teacher_outputs import compute_teacher_outputs
from raydisc.stages.tokenise import compute_tokenise

COMPUTE: dict[str, Compute] = {
    "tokenise": compute_tokenise,
    "finetune": compute_finetune,
    "teacher_outputs": compute_teacher_outputs,
    "importance": compute_importance,
    "once_for_all": compute_once_for_all,
    "distil": compute_distil,
    "evaluate": compute_evaluate,
}
"""How each kind of stage is computed."""

Outcome = TypeVar("Outcome")
Schedule = Generator[Request, Artifact, Outcome]
"""Asks for stages, is sent their artifacts, returns an outcome."""

OnStage = Callable[[Request, Artifact, bool], None]
"""Told of every stage that a schedule asked for: the request, its artifact, and whether it was there already."""


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
    """Computes stages in this process.

    Args:
        store: artifacts, found and kept.
        device: to compute on.
        arithmetic: how to compute; it enters keys.
        progress: told of the running stage, with its ``stage`` and ``key``.
        on_stage: told of every finished stage.
        checkpoint_every_s: seconds between checkpoints.
    """

    def __init__(
        self,
        store: ArtifactStore,
        device: torch.device,
        arithmetic: Arithmetic,
        progress: Progress,
        on_stage: OnStage,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        """See the class."""
        self.store = store
        self._device, self._progress, self._on_stage = device, progress, on_stage
        self._arithmetic, self._checkpoint_every_s = arithmetic, checkpoint_every_s

    def execute(self, request: Request) -> Artifact:
        """The stage's artifact: found, waited for while another process computes it, or computed here."""
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

        context = Context(
            store=self.store,
            device=self._device,
            precision=self._arithmetic.precision,
            progress=progress,
            checkpoint_folder=self.store.checkpoint_folder(promise.key),
            checkpoint_every_s=self._checkpoint_every_s,
        )
        progress({"step": 0})
        wall, cpu = time.perf_counter(), time.process_time()
        result = COMPUTE[request.kind](request, context)
        wall = time.perf_counter() - wall + result.wall_before
        cpu = time.process_time() - cpu + result.cpu_before
        cost = Cost(result.flops, device_seconds=wall, wall_seconds=wall, cpu_seconds=cpu)
        artifact = self.store.commit(promise, result.facts, cost, result.blobs)
        del result
        _return_memory()
        return artifact


def _return_memory() -> None:
    """Give what a stage's batches of many shapes have left in the allocator back to the system.

    Without this a trial's process keeps several times what any one stage needs (glibc only; elsewhere nothing to do).
    """
    library = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None
    if trim is not None:
        trim(0)
