"""The resources of a machine, and the share of them that a trial's process takes."""

import os
import socket
from contextlib import suppress

import pyarrow as pa
import torch

from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError
from raydisc.models.precision import Precision, has_bfloat16


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_beyond_machine(resources: ResourcesConfig) -> None:
    """Refuse a trial that this machine cannot run, before Ray is started.

    Raises:
        InputError: The trial asks for more threads or workers than cores, or for bfloat16 on a processor without it.
    """
    if resources.cpus > cores():
        raise InputError(f"resources.cpus: a trial asks for {resources.cpus}, but this machine has {cores()} to use")
    for name, workers in (("workers", resources.workers), ("teacher_workers", resources.teacher_workers or 1)):
        if not resources.gpus and workers * resources.cpus > cores():
            raise InputError(
                f"resources.{name}: {workers} workers with {resources.cpus} threads each are more than the "
                f"{cores()} cores that this machine has to use"
            )
    if resources.precision == "bfloat16" and not resources.gpus:
        refuse_without(resources.precision, torch.device("cpu"))


def refuse_without(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that a device of this process does not have.

    Raises:
        InputError: The precision would have to be emulated.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        kind = "GPU" if device.type == "cuda" else "processor"
        raise InputError(
            f"resources.precision: the {kind} of '{socket.gethostname()}' has no bfloat16 arithmetic; set it to float32"
        )


def bound_threads(threads: int) -> None:
    """Bound the threads of every library in this process to a trial's share of the machine.

    Ray bounds OpenMP through the environment only where the environment does not bound it already.
    """
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # read by tokenizers when they start their threads
    with suppress(RuntimeError):  # it can be set once, and a process may run several trials
        torch.set_num_interop_threads(1)
