"""What a machine can do and what a process uses: clocks, measured peaks, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raydisc.errors import InputError
from raydisc.runs.machine import cores

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The precisions that can be asked for."""

_LEAST_SECONDS = 0.05  # of one measurement of a peak, so that a clock's grain does not show


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes a GPU where there is one.

    Raises:
        InputError: A GPU is asked for, but there is no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: cuda is asked for, but torch sees no GPU; use auto or cpu")
    return torch.device(name)


def check_threads(threads: int) -> int:
    """Threads that the machine has cores for.

    Raises:
        InputError: There are more threads than cores, or fewer than one.
    """
    if not 1 <= threads <= cores():
        raise InputError(f"--threads: {threads} is not between 1 and the {cores()} cores that there are to use")
    return threads


@dataclass(frozen=True)
class Clock:
    """Seconds that a piece of work takes on a device.

    On a GPU the wall clock, once the device has done what it was given. On a CPU the process time divided by the
    threads: on a shared machine it says what the work takes, whoever else is running.
    """

    device: torch.device
    threads: int = 1

    def __call__(self) -> float:
        """Return the time now in seconds from an arbitrary start."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time() / self.threads


class Peak:
    """The matrix-multiply peak of a device, by square matrices that are large enough.

    Args:
        clock: The clock of the device.
        dtype: The data type of both factors and the product.
        size: The number of rows and columns; None takes what suits the device.
    """

    def __init__(self, clock: Clock, dtype: torch.dtype, size: int | None = None) -> None:
        """Make the matrices and multiply once."""
        self._clock = clock
        self._size = size or (8192 if clock.device.type == "cuda" else 1024)
        shape = (self._size, self._size)
        self._factors = [torch.randn(shape, device=clock.device).to(dtype) for _ in range(2)]
        self._product = torch.empty(shape, device=clock.device, dtype=dtype)
        self.measure(least_seconds=0.0)

    def measure(self, least_seconds: float = _LEAST_SECONDS) -> float:
        """FLOP/s of one short measurement."""
        count, seconds = 0, 0.0
        begun = self._clock()
        while seconds < least_seconds or count == 0:
            for _ in range(4):
                torch.mm(self._factors[0], self._factors[1], out=self._product)
            count += 4
            seconds = self._clock() - begun
        return 2 * self._size**3 * count / max(seconds, 1e-9)


def copy_bandwidth(clock: Clock, nbytes: int | None = None, repetitions: int = 5) -> float:
    """Bytes read and written a second by copying a block far larger than any cache; the median.

    Args:
        clock: The clock of the device.
        nbytes: The bytes of the block; None takes what suits the device.
        repetitions: The number of measurements.
    """
    nbytes = nbytes or (2**30 if clock.device.type == "cuda" else 2**28)
    source = torch.ones(nbytes, dtype=torch.uint8, device=clock.device)
    target = torch.zeros_like(source)
    rates = []
    for _ in range(repetitions):
        begun = clock()
        target.copy_(source)
        rates.append(2 * nbytes / max(clock() - begun, 1e-9))
    return float(np.median(rates))


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements, and where half of them lie."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median and quartiles."""
        low, median, high = np.percentile(np.asarray(values, dtype=float), [25, 50, 75])
        return Spread(float(median), float(low), float(high))

    def text(self, digits: int = 2) -> str:
        """Return the median, and the quartiles in brackets, for a table."""
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def private_bytes() -> int:
    """Memory that this process shares with nobody.

    Raises:
        InputError: The system does not report it (only Linux does).
    """
    path = Path("/proc/self/smaps_rollup")
    if not path.is_file():
        raise InputError("private memory is read from /proc/self/smaps_rollup, which only Linux has")
    return sum_private(path.read_text())


def sum_private(rollup: str) -> int:
    """Bytes of the ``Private_*`` lines of a ``smaps_rollup``."""
    lines = (line.split() for line in rollup.splitlines() if line.startswith("Private_"))
    return sum(int(words[1]) * 1024 for words in lines)


def resident_bytes(peak: bool = False) -> int:
    """Memory that this process has resident, pages that it shares with others included.

    Args:
        peak: The peak since the process began, or since ``forget_peak``.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        field = "VmHWM" if peak else "VmRSS"
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no other system says how much it is now
    return most if sys.platform == "darwin" else most * 1024


def forget_peak() -> None:
    """Let the peak begin again from what is resident now, if the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
