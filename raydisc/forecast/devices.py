"""The devices that a forecast is made for: those given by options, or this machine's."""

import os
import re
from dataclasses import dataclass
from typing import Literal

import torch

from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError
from raydisc.models.precision import Precision

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


@dataclass(frozen=True)
class Devices:
    """Devices of one kind.

    Attributes:
        kind: Whether they are GPUs or CPUs.
        count: The number of devices.
        memory: The bytes of one device.
        name: The name for people.
    """

    kind: Literal["gpu", "cpu"]
    count: int
    memory: int
    name: str

    def precision(self, resources: ResourcesConfig) -> Precision:
        """Return the precision of a run on them; a GPU that is given by options is assumed to have bfloat16."""
        if resources.precision != "auto":
            return resources.precision
        return "bfloat16" if self.kind == "gpu" else "float32"


def parse_bytes(text: str) -> int:
    """Return the bytes in a text such as ``80GiB`` or ``512 MB``.

    Raises:
        InputError: The text is not an amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) == 0:
        raise InputError(f"`--gpu-memory` must be an amount of memory such as 80GiB or 40000MB, but is '{text}'")
    return round(float(found[1]) * unit)


def given_devices(gpus: int | None, memory: str | None) -> Devices:
    """Return a number of GPUs with the same memory each.

    Raises:
        InputError: The number is below 1, or one of the two is missing.
    """
    if gpus is None or memory is None:
        raise InputError("--gpus and --gpu-memory belong together: how many there are, and how much memory each has")
    if gpus < 1:
        raise InputError(f"`--gpus` must be at least 1, but is {gpus}; leave it out to plan for this machine")
    return Devices("gpu", gpus, parse_bytes(memory), f"{gpus} GPU{'s' if gpus > 1 else ''} of {memory.strip()}")


def local_devices() -> Devices:
    """Return this machine's GPUs, or without any the machine itself as one worker."""
    if torch.cuda.is_available():
        memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))
        return Devices("gpu", torch.cuda.device_count(), memory, "this machine's GPUs")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Devices("cpu", 1, memory, "this machine, without a GPU")
