"""What the cluster can do for a trial. Import this inside a ``ray_session``: Ray reads its settings when imported."""

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
"""Seconds that a plan waits for a GPU that it may ask; a run waits for as long as it takes."""

_LOOK_EVERY_S = 2.0


def await_room(resources: ResourcesConfig, one_machine: bool, notice: Callable[[str], None]) -> None:
    """Refuse a trial that no machine has room for; or ask the cluster's autoscaler for machines, and wait for them.

    Args:
        resources: of a trial; with how long may be waited.
        one_machine: whether a trial's workers must be on one, since they write files together and the storage is no
            folder that all see.
        notice: told what is waited for.

    Raises:
        InputError: there is no room, and none has come: Tune would wait for ever.
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
    """What a trial asks for and the machines that are there have not, as a sentence; None where there is room."""
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
    """How many trials are handed out at a time: those that the cluster has room for just now, and half as many again.

    The latter wait: they begin at once where others end, and an autoscaler sees by them how much more there is to do.

    Args:
        resources: of a trial.
        workers: of a trial.
    """

    def __init__(self, resources: ResourcesConfig, workers: int) -> None:
        """Look when asked."""
        self._resources, self._workers = resources, workers
        self._trials, self._next = 1, 0.0

    def __call__(self) -> int:
        """So many; the cluster may have grown or shrunk since it was last looked at."""
        if time.monotonic() > self._next:
            self._trials = with_waiting(_workers_on(ray.cluster_resources(), self._resources) // self._workers)
            self._next = time.monotonic() + _LOOK_EVERY_S
        return self._trials


def with_waiting(trials: int) -> int:
    """So many, and half as many again, at least one."""
    return trials + max(1, trials // 2)


def worker_memory(resources: ResourcesConfig) -> float:
    """Bytes that a trial's worker has: those of its GPU, else its share of the memory that Ray gives of its machine."""
    if resources.gpus:
        return float(_on_gpu(1, _memory_of_gpu))
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [it for it in machines if it.get("CPU", 0) >= resources.cpus]
    most = max(resources.workers, resources.teacher_workers or 1)
    return float(min((it.get("memory", 0.0) / min(most, it["CPU"] // resources.cpus) for it in able), default=0.0))


def arithmetic_of(resources: ResourcesConfig) -> Arithmetic:
    """The arithmetic of a run's stages, settled before a key is made of it.

    Whether a GPU has bfloat16 is asked of one that a trial would get: the driver need not have any.

    Raises:
        InputError: the GPU cannot be used, or lacks the precision that is asked for.
    """
    asked = resources.precision
    if not resources.gpus:
        return Arithmetic(resources.cpus, "float32" if asked == "auto" else asked)
    return Arithmetic(None, _on_gpu(resources.gpus, _settled_on_gpu, asked))


def devices_of_cluster() -> Devices:
    """The GPUs of the cluster, of which one is asked for its memory; without any, its machines' memory.

    Raises:
        InputError: the GPU cannot be asked.
    """
    total = ray.cluster_resources()
    if count := int(total.get("GPU", 0)):
        memory = _on_gpu(1, _memory_of_gpu, within_s=_FREE_S)
        return Devices("gpu", count, memory, f"the cluster's {count} GPU{'s' if count > 1 else ''}")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    memory = min(int(machine.get("memory", 0)) for machine in machines)
    return Devices("cpu", len(machines), memory, f"the cluster's {len(machines)} machine(s), without a GPU")


def _on_gpu(share: float, ask: Callable[..., Found], *words: object, within_s: float | None = None) -> Found:
    """What a function says on a GPU of the cluster, or a share of one, once one is free.

    Raises:
        InputError: the function does, or no GPU is free within so many seconds.
    """
    remote: Any = ray.remote(num_cpus=0, num_gpus=share, max_calls=1)(ask)
    try:
        found: Found = ray.get(remote.remote(*words), timeout=within_s)
    except GetTimeoutError as error:
        raise InputError(
            f"the cluster's GPUs: none was free within {within_s:g} s to be asked for its memory; try again when one "
            "is, or tell of them by --gpus and --gpu-memory"
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
