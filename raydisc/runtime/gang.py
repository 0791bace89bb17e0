"""The gang of a trial: workers with a device each, in the trial's placement group, that compute its stages together."""

import os
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError
from torch import distributed

from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError, NonFiniteLoss, OutOfMemory, Stopped, StorageError
from raydisc.parallel.malloc import return_freed_memory
from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import Rank
from raydisc.runs.machine import bound_threads, refuse_without
from raydisc.runs.termination import GRACE_S, heed_sigterm, is_going
from raydisc.runtime.hot_store import hot_store
from raydisc.runtime.job_folder import enter_job_folder
from raydisc.runtime.liveness import leave_on_loss
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.storage.address import open_storage
from raydisc.training.execution import Execution
from raydisc.training.loop import Stops, never
from raydisc.training.progress import Evaluated, Event, Progress, Ranked, step_of

_NEWS_EVERY_S = 0.5
_LOSS_SHOWS_S = 10.0
"""The seconds after which Ray knows of a killed worker, which the other workers may notice earlier."""

_LOSSES_FORGIVEN = 2
"""The losses that a stage may have without making progress."""

START_TIMEOUT_S = 180.0
"""The seconds within which processes start on machines that are running."""

_PEER_TIMEOUT = timedelta(hours=12)
"""Long, since workers wait for one that writes or tokenises alone; a lost worker shows at once."""


@dataclass(frozen=True)
class Team:
    """The settings that every worker of a gang receives.

    Attributes:
        layout: The layout of the workers.
        resources: The resources of a trial.
        execution: How the workers compute.
        storage: The storage's path or address.
        start_timeout_s: The seconds within which workers must have started.
    """

    layout: Layout
    resources: ResourcesConfig
    execution: Execution
    storage: str
    start_timeout_s: float = START_TIMEOUT_S


class WorkerLost(RuntimeError):
    """A worker's process has died."""


class GangWorker:
    """A worker: an actor that can be asked for its news while it computes."""

    def __init__(self, team: Team, copies: Any) -> None:
        """Create a worker that has not joined the others yet."""
        self._team, self._copies = team, copies
        self._worker: Worker | None = None
        self._news: list[Event] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        heed_sigterm()
        leave_on_loss()
        enter_job_folder()

    def node(self) -> str:
        """Return the machine that the worker is on."""
        return str(ray.get_runtime_context().get_node_id())

    def meet(self, index: int, layout: Layout, meeting: str, one_machine: bool) -> None:
        """Join the other workers of a layout through a file that all of them see.

        Raises:
            InputError: The device lacks the precision.
        """
        team = self._team
        device = torch.device("cuda" if team.resources.gpus else "cpu")
        refuse_without(team.execution.precision, device)
        if one_machine and sys.platform == "linux":  # nothing listens beyond it
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(
            backend, init_method=f"file://{meeting}", rank=index, world_size=layout.workers, timeout=_PEER_TIMEOUT
        )
        mesh = layout.mesh(device.type) if layout.shard > 1 else None
        if mesh is not None and device.type == "cpu":
            return_freed_memory()
        storage = open_storage(team.storage)
        # a sharded model is read by rows, from the file: a hot copy would hold it whole in the machine's memory
        store = hot_store(storage, self._copies) if mesh is None else ArtifactStore(storage)
        self._worker = Worker(store, device, team.execution, Rank(index, layout, mesh), self._stops)

    def compute(self, request: Stage, promise: Artifact, micro_batches: int) -> Artifact:
        """Compute a stage with the others."""
        assert self._worker is not None
        bound_threads(self._team.resources.cpus)  # of this thread: an actor has several
        return self._worker(request, promise, self._note, micro_batches)

    def _stops(self) -> bool:
        return self._stop.is_set() or is_going()

    def _note(self, event: Event) -> None:
        with self._lock:
            self._news = news_with(self._news, event)

    def stop(self) -> None:
        """Make all workers write a checkpoint after this step and stop."""
        self._stop.set()

    def news(self) -> list[Event]:
        """Return the news since the last call: all evaluations, and the last event."""
        with self._lock:
            news, self._news = self._news, []
        return news


def news_with(news: Sequence[Event], event: Event) -> list[Event]:
    """Return a worker's news with a further event, which replaces earlier ones, but no evaluation."""
    return [*(it for it in news if isinstance(it, Evaluated | Ranked)), event]


class Gang:
    """The workers of a trial, which compute its stages together; they are started with the first stage.

    After the loss of a worker all are started again, and the stage continues from its last checkpoint. When a worker
    gets SIGTERM, all write a checkpoint first.

    Args:
        team: The settings of the workers.
        copies: The handle of the ``HotCopies`` actor.
        stops: Whether the workers are to stop.
    """

    def __init__(self, team: Team, copies: Any, stops: Stops = never) -> None:
        """Create the gang; no worker is started yet."""
        self._team, self._copies, self.stops = team, copies, stops
        self._workers: list[Any] = []

    def __call__(self, request: Stage, promise: Artifact, progress: Progress, micro_batches: int = 1) -> Artifact:
        """Compute a stage, keep its artifact, and return it.

        Raises:
            WorkerLost: Workers died more often than they may, or too few could be started.
            OutOfMemory: The memory of a worker's device was not enough.
            Stopped: The workers were asked to stop.
        """
        furthest = losses = 0

        def reported(event: Event) -> None:
            nonlocal furthest, losses
            step = step_of(event)
            if step is not None and step > furthest:
                furthest, losses = step, 0
            progress(event)

        while True:
            try:
                self._workers = self._workers or self._started()
                return self._computed(request, promise, reported, micro_batches)
            except BaseException as error:
                self.disband()
                if isinstance(error, Stopped) and not self.stops():  # a worker got SIGTERM, and not this trial
                    continue
                losses += 1
                if not isinstance(error, WorkerLost) or losses > _LOSSES_FORGIVEN:
                    raise

    def disband(self) -> None:
        """End all workers."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _started(self) -> list[Any]:
        """Start the workers and return them by rank; those of one machine are neighbours."""
        resources, layout = self._team.resources, self._team.layout
        actor: Any = ray.remote(GangWorker)
        options = actor.options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_concurrency=2)
        workers = [options.remote(self._team, self._copies) for _ in range(layout.workers)]
        self._workers = workers
        nodes = _answers([worker.node.remote() for worker in workers], self._team.start_timeout_s)
        here = sorted((node, number) for number, node in enumerate(nodes) if node is not None)
        if len(here) < layout.workers:
            layout = self._with(len(here))
            here = here[: layout.workers]
        chosen = [workers[number] for _, number in here]
        for worker in set(workers) - set(chosen):
            ray.kill(worker)
        self._workers = chosen
        meeting = open_storage(self._team.storage).path(f"locks/gang-{uuid.uuid4().hex}")
        meeting.parent.mkdir(parents=True, exist_ok=True)
        one_machine = len({node for node, _ in here}) == 1
        try:
            met = [it.meet.remote(index, layout, str(meeting), one_machine) for index, it in enumerate(chosen)]
            all_or_raise(met, chosen, lambda: None)
        finally:
            meeting.unlink(missing_ok=True)
        return chosen

    def _with(self, workers: int) -> Layout:
        least = self._team.resources.min_workers or self._team.layout.workers
        layout = self._team.layout.smaller(workers) if workers else None
        if layout is None or layout.workers < least:
            raise WorkerLost(
                f"{workers} of {self._team.layout.workers} workers could be started within "
                f"{self._team.start_timeout_s:g} seconds; set resources.min_workers to go on with fewer"
            )
        return layout

    def _computed(self, request: Stage, promise: Artifact, progress: Progress, micro_batches: int) -> Artifact:
        leader = self._workers[0]

        def tell() -> None:
            if self.stops():
                leader.stop.remote()
            for event in _answers([leader.news.remote()], _LOSS_SHOWS_S)[0] or []:
                progress(event)

        asked = [it.compute.remote(request, promise, micro_batches) for it in self._workers]
        artifacts = all_or_raise(asked, self._workers, tell)
        artifact: Artifact = artifacts[0]
        return artifact


_HELD: list[tuple[Team, Gang]] = []
"""This process's gang, which its next job takes over, since starting one takes seconds."""


def gang_of(team: Team, copies: Any, stops: Stops) -> Gang:
    """Return the gang that this process's jobs share; it ends with the process, and by ``disband`` after a failure.

    Args:
        team: See ``Gang``.
        copies: See ``Gang``.
        stops: See ``Gang``.
    """
    if not _HELD or _HELD[0][0] != team:
        for _, gang in _HELD:
            gang.disband()
        _HELD[:] = [(team, Gang(team, copies, stops))]
    gang = _HELD[0][1]
    gang.stops = stops  # of this job; the gang may have served another one before
    return gang


def _answers(references: Sequence[Any], timeout: float) -> list[Any]:
    """Return the answers that have come within some seconds, with None for those missing or failed."""
    ray.wait(list(references), num_returns=len(references), timeout=timeout)
    answers: list[Any] = []
    for reference in references:
        answer = None
        with suppress(ray.exceptions.RayError):
            answer = ray.get(reference, timeout=0)
        answers.append(answer)
    return answers


def all_or_raise(references: list[Any], workers: Sequence[Any], meanwhile: Any) -> list[Any]:
    """Return the workers' answers, all of them.

    Raises:
        WorkerLost: A worker has died, which the others may have noticed first.
        Exception: The error that a worker has raised.
    """
    waiting = list(references)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=_NEWS_EVERY_S)
        meanwhile()
        try:
            ray.get(done)
        except RayActorError as error:
            raise WorkerLost("a worker's process died") from error
        except RayTaskError as error:
            if isinstance(error.cause, Stopped):  # the leader writes the checkpoint for all
                ray.wait(references, num_returns=len(references), timeout=GRACE_S)
            told = InputError | NonFiniteLoss | OutOfMemory | StorageError | Stopped
            if not isinstance(error.cause, told) and _one_is_gone(workers):
                raise WorkerLost("a worker's process died") from error
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
    return list(ray.get(list(references)))


def _one_is_gone(workers: Sequence[Any]) -> bool:
    """Whether a worker has died, found out over some seconds, since Ray may be the last to know."""
    end = time.monotonic() + _LOSS_SHOWS_S
    while time.monotonic() < end:
        for worker in workers:
            try:
                ray.get(worker.node.remote(), timeout=1.0)
            except RayActorError:
                return True
            except ray.exceptions.GetTimeoutError:
                continue
        time.sleep(_NEWS_EVERY_S)
    return False
