"""The software and the processor of this process, which the last bits of a stage depend on beside its key."""

import platform
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from raydisc.stages.facts import Platform

_CPU_INFO = Path("/proc/cpuinfo")


def platform_of(device: torch.device) -> Platform:
    """Return what this process computes with on a device."""
    gpu = device.type == "cuda"
    return Platform(
        torch=torch.__version__,
        transformers=version("transformers"),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name(device) if gpu else _cpu(),
    )


def joined(platforms: Sequence[Platform]) -> Platform:
    """Return the platforms of the workers of a stage as one, which names each different value."""

    def values(name: str) -> str | None:
        found = dict.fromkeys(value for it in platforms if (value := getattr(it, name)))
        return " + ".join(found) or None

    return Platform(**{item.name: values(item.name) for item in fields(Platform)})


@cache
def _cpu() -> str:
    """Return the name of the CPU; Python knows only its architecture on Linux."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())
