"""The resources of a cluster. Import this inside a ``ray_session``, since Ray reads its settings when imported."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group

from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError
from raydisc.forecast.devices import Devices
from raydisc.models.precision import Arithmetic, Precision, has_bfloat16
from raydisc.runs.machine import refuse_without

Found = TypeVar("Found")

_FREE_S = 60.0
"""The seconds that a plan waits for a free GPU; a run waits without a limit."""

_LOOK_EVERY_S = 2.0


def await_room(resources: ResourcesConfig, one_machine: bool, notice: Callable[[str], None]) -> None:
    """Wait for machines with room for a trial where the cluster may grow, and otherwise refuse the trial.

    Args:
        resources: The resources of a trial, and the minutes to wait.
        one_machine: Whether a trial's workers must share a machine, since they write files together and the storage is
            not a folder that every node sees.
        notice: Shows the user what the run waits for.

    Raises:
        InputError: There is not enough room, and waiting has not changed this; Tune would wait for ever.
    """
    lack, minutes = _lack_of_room(resources, one_machine), resources.wait_minutes
    if lack is None:
        return
    if not minutes:
        raise InputError(f"{lack}; where an autoscaler would start more, set resources.wait_minutes")
    notice(f"waiting up to {minutes:g} minutes for the cluster to grow: {lack}")
    end, workers = time.monotonic() + 60 * minutes, max(resources.workers, resources.teacher_workers or 1)
    share = {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if resources.gpus else {})
    wanted = placement_group([share] * workers, strategy="STRICT_PACK" if one_machine else "PACK")
    try:
        while time.monotonic() < end:
            time.sleep(_LOOK_EVERY_S)
            lack = _lack_of_room(resources, one_machine)
            if lack is None:
                return
        raise InputError(f"{lack}; within {minutes:g} minutes no more came (resources.wait_minutes)")
    finally:
        remove_placement_group(wanted)  # from now on the trials say what they need


def _lack_of_room(resources: ResourcesConfig, one_machine: bool) -> str | None:
    """Return a sentence on what the machines lack for a trial, or None where there is room."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, asked, kind in (("cpus", resources.cpus, "CPU"), ("gpus", resources.gpus, "GPU")):
        most = max((machine.get(kind, 0) for machine in machines), default=0)
        if asked > most:
            return (
                f"resources.{name}: a trial asks for {asked:g}, but the machine, or the largest of the cluster, "
                f"has {most:g}"
            )
        machines = [machine for machine in machines if machine.get(kind, 0) >= asked]
    rooms = [_workers_on(machine, resources) for machine in machines]
    room = max(rooms) if one_machine else sum(rooms)
    where = "a machine of the cluster" if one_machine else "the cluster"
    for name, workers in (("workers", resources.workers), ("teacher_workers", resources.teacher_workers or 1)):
        if workers > room:
            return (
                f"resources.{name}: {workers} workers are asked for, with {resources.cpus} CPUs and "
                f"{resources.gpus:g} GPUs each, but {where} has room for {room}"
                + ("; with a storage that is a folder they may be on several" if one_machine else "")
            )
    return None


def _workers_on(machine: Mapping[str, float], resources: ResourcesConfig) -> int:
    shares = [machine.get("CPU", 0) // resources.cpus]
    if resources.gpus:
        shares.append(machine.get("GPU", 0) // resources.gpus)
    return int(min(shares))


class Room:
    """The number of trials to hand out: those that the cluster has room for now, and half as many that wait.

    Waiting trials start as soon as others end, and show an autoscaler how much work is left.

    Args:
        resources: The resources of a trial.
        workers: The workers of a trial.
    """

    def __init__(self, resources: ResourcesConfig, workers: int) -> None:
        """Create it; the cluster is asked at the first call."""
        self._resources, self._workers = resources, workers
        self._trials, self._next = 1, 0.0

    def __call__(self) -> int:
        """Return the number of trials; the cluster may have grown or shrunk since the last call."""
        if time.monotonic() > self._next:
            self._trials = with_waiting(_workers_on(ray.cluster_resources(), self._resources) // self._workers)
            self._next = time.monotonic() + _LOOK_EVERY_S
        return self._trials


def with_waiting(trials: int) -> int:
    """Return a number of trials increased by half, and at least by one."""
    return trials + max(1, trials // 2)


def worker_memory(resources: ResourcesConfig) -> float:
    """Return the bytes of a worker: those of its GPU, or without one its share of its machine's memory."""
    if resources.gpus:
        return float(_on_gpu(1, _memory_of_gpu))
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [it for it in machines if it.get("CPU", 0) >= resources.cpus]
    most = max(resources.workers, resources.teacher_workers or 1)
    return float(min((it.get("memory", 0.0) / min(most, it["CPU"] // resources.cpus) for it in able), default=0.0))


def arithmetic_of(resources: ResourcesConfig) -> Arithmetic:
    """Return the arithmetic of a run's stages, which is part of their keys.

    A GPU that a trial would get is asked whether it has bfloat16, since the driver may be without a GPU.

    Raises:
        InputError: The GPU cannot be used, or lacks the precision that is asked for.
    """
    asked = resources.precision
    if not resources.gpus:
        return Arithmetic(resources.cpus, "float32" if asked == "auto" else asked)
    return Arithmetic(None, _on_gpu(resources.gpus, _settled_on_gpu, asked))


def devices_of_cluster() -> Devices:
    """Return the GPUs of the cluster, one of which is asked for its memory, or else the memory of its machines.

    Raises:
        InputError: The GPU cannot be asked.
    """
    total = ray.cluster_resources()
    if count := int(total.get("GPU", 0)):
        memory = _on_gpu(1, _memory_of_gpu, within_s=_FREE_S)
        return Devices("gpu", count, memory, f"the cluster's {count} GPU{'s' if count > 1 else ''}")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    memory = min(int(machine.get("memory", 0)) for machine in machines)
    return Devices("cpu", len(machines), memory, f"the cluster's {len(machines)} machine(s), without a GPU")


def _on_gpu(share: float, ask: Callable[..., Found], *words: object, within_s: float | None = None) -> Found:
    """Call a function on a GPU of the cluster, or on a share of one, as soon as one is free.

    Raises:
        InputError: The function raises it, or no GPU is free within ``within_s`` seconds.
    """
    remote: Any = ray.remote(num_cpus=0, num_gpus=share, max_calls=1)(ask)
    try:
        found: Found = ray.get(remote.remote(*words), timeout=within_s)
    except GetTimeoutError as error:
        raise InputError(
            f"the cluster's GPUs: none was free within {within_s:g} s to be asked for its memory; try again when one "
            "is, or give --gpus and --gpu-memory"
        ) from error
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    return found


def _memory_of_gpu() -> int:
    if not torch.cuda.is_available():
        raise InputError(
            "the cluster's GPUs: Ray has one to give, but torch sees none there; install torch with CUDA on them"
        )
    return int(torch.cuda.get_device_properties(0).total_memory)


def _settled_on_gpu(asked: str) -> Precision:
    device = torch.device("cuda")
    if not torch.cuda.is_available():
        raise InputError(
            "resources.gpus: Ray has a GPU to give, but torch sees none there; install torch with CUDA, or set it to 0"
        )
    if asked == "float32" or (asked == "auto" and not has_bfloat16(device)):
        return "float32"
    refuse_without("bfloat16", device)
    return "bfloat16"
