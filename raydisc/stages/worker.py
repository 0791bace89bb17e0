"""Computing a stage: alone, or as one of several workers that run the same code on their shares."""

import ctypes
import ctypes.util
import gc
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from raydisc.errors import OutOfMemory, reason_of
from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.tensor_file import TensorFile
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.base import Stage
from raydisc.stages.context import Context
from raydisc.stages.facts import PlatformFacts
from raydisc.stages.platform import joined, platform_of
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.training.execution import Execution
from raydisc.training.loop import Stops, never
from raydisc.training.micro_batches import is_out_of_memory
from raydisc.training.progress import Event, Progress


@dataclass(frozen=True)
class Worker:
    """Computes stages in this process.

    Attributes:
        store: The artifacts.
        device: The device to compute on.
        execution: How stages are computed.
        rank: The rank among the workers that compute a stage together.
        stops: Whether this worker is asked to stop.
    """

    store: ArtifactStore
    device: torch.device
    execution: Execution = Execution()
    rank: Rank = ALONE
    stops: Stops = never

    def __call__(self, request: Stage, promise: Artifact, progress: Progress, micro_batches: int = 1) -> Artifact:
        """Compute a stage and keep its artifact; the caller holds its key, and every worker is called.

        Args:
            request: The stage.
            promise: The promise of its artifact.
            progress: Takes the events of the running stage, from the worker that leads.
            micro_batches: The number of parts that each batch is cut into.

        Raises:
            OutOfMemory: This worker's device had no room.
        """
        full = ""
        try:
            return self._computed(request, promise, progress, micro_batches)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            full = reason_of(error)
        # only now: the error holds what the stage had in memory
        _return_memory()
        raise OutOfMemory(full)

    def _computed(self, request: Stage, promise: Artifact, progress: Progress, micro_batches: int) -> Artifact:
        if request.by_one and not self.rank.leads:
            return self.rank.from_leader(promise)
        rank = ALONE if request.by_one else self.rank
        context = Context(
            store=self.store,
            device=self.device,
            progress=progress if rank.leads else _ignore,
            checkpoint_folder=self.store.checkpoint_folder(promise.key),
            execution=replace(self.execution, micro_batches=micro_batches),
            rank=rank,
            stops=self.stops,
        )
        wall, cpu = time.perf_counter(), time.process_time()
        with self.store.carrying(promise.key) if rank.leads else nullcontext():
            rank.wait()
            result = request.compute(context)
        wall = time.perf_counter() - wall + result.wall_before
        cpu = time.process_time() - cpu
        cpu = float(rank.total(torch.tensor(cpu, dtype=torch.float64))) + result.cpu_before
        cost = Cost(result.flops, device_seconds=wall * self.rank.workers, wall_seconds=wall, cpu_seconds=cpu)
        platform = joined(rank.each(platform_of(self.device)))
        if self.rank.leads:
            facts = {**result.facts, **PlatformFacts(platform).to_json()}
            if micro_batches > 1:
                facts["micro_batches"] = micro_batches
            artifact = self.store.commit(promise, facts, cost, result.blobs)
        else:
            artifact = _written_along(promise, result.blobs)
        del result
        _return_memory()
        return self.rank.from_leader(artifact)


def _ignore(_: Event) -> None:
    """Ignore the progress of a worker that does not lead."""


def _written_along(promise: Artifact, blobs: Mapping[str, Blob]) -> Artifact:
    """Take part in writing what all write together, in the leader's order."""
    for blob in blobs.values():
        if isinstance(blob, TensorFile) and blob.together:
            blob(Path())
    return promise


@cache
def _leave_out_what_stays() -> None:
    """Have collections pass over what the process has imported, once: looking through it takes .25 s each time."""
    gc.freeze()


def _return_memory() -> None:
    """Give what a stage's batches of many shapes have left in the allocator back to the system.

    Without this a trial's process keeps several times what any one stage needs (glibc only; elsewhere nothing to do).
    A sharded model is in cycles of references, so that it goes only with them.
    """
    gc.collect()
    _leave_out_what_stays()
    library = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None
    if trim is not None:
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
