"""Where the time of a step goes: the profiler's operators, sorted into a few groups."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

GROUPS = (
    "matrix multiplies",
    "attention",
    "element-wise",
    "embeddings",
    "losses",
    "optimiser and clipping",
    "other",
)
"""What a step's time is sorted into; ``other`` is reading data, Python, and waiting for the device."""

_MULTIPLIES = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear", "aten::matmul"}
_BACKWARD = "autograd::engine::evaluate_function"
_LOSSES = "raydisc/losses/"
_DATA = ("signals/source.py", "tasks/tokenised.py")


def group_of(path: Sequence[str]) -> str:
    """Return the group of an operator.

    Args:
        path: Its name, then the names of what called it, operators, modules and lines of Python; for an operator of
            the backward the names of the forward operator whose gradient it computes, and of its callers, follow.
    """
    own = path[0]
    within_module = next((index for index, name in enumerate(path) if name.startswith("nn.Module:")), len(path))
    if any(name.startswith("Optimizer.") or "clip_grad" in name for name in path):
        return "optimiser and clipping"
    if any(_LOSSES in name for name in path):
        return "losses"
    if any(place in name for name in path[:within_module] for place in _DATA):
        return "other"
    if any("embedding" in name for name in path if name.startswith("aten::")):
        return "embeddings"
    if any("attention" in name for name in path if name.startswith("aten::")):
        return "attention"
    if any(name in _MULTIPLIES for name in path):
        return "matrix multiplies"
    return "element-wise" if own.startswith("aten::") else "other"


def profiler(device: torch.device) -> torch.profiler.profile:
    """Return a profiler that knows which line of Python called an operator."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    settings = torch._C._profiler._ExperimentalConfig(verbose=True)
    return torch.profiler.profile(activities=kinds, with_stack=True, experimental_config=settings)


@contextmanager
def muted() -> Iterator[None]:
    """Nothing on standard error, not even from C++: the profiler's library announces each start and stop there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def seconds_by_group(events: Iterable[Any], on_gpu: bool) -> Counter[str]:
    """Seconds that operators took themselves, callees left out, by group.

    Args:
        events: The ``events()`` of the profiler.
        on_gpu: Whether to count the time of operators on the GPU.
    """
    events = [event for event in events if event.device_type == torch._C._autograd.DeviceType.CPU]
    forwards: dict[int, Any] = {}
    for event in events:
        if event.sequence_nr >= 0 and event.scope == 0 and event.name.startswith("aten::"):
            forwards.setdefault(event.sequence_nr, event)
    found: Counter[str] = Counter()
    for event in events:
        if event.name.startswith("aten::"):
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            found[group_of(list(_path(event, forwards)))] += microseconds * 1e-6
    return found


def _path(event: Any, forwards: dict[int, Any]) -> Iterator[str]:
    """Return the names that ``group_of`` takes."""
    forward, current = None, event
    while current is not None:
        yield current.name
        if current.name.startswith(_BACKWARD) and forward is None:
            forward = forwards.get(current.sequence_nr)
        current = current.cpu_parent
    while forward is not None:
        yield forward.name
        forward = forward.cpu_parent


def shares(operators: Counter[str], seconds: float) -> dict[str, float]:
    """Return the share of each group in some steps; ``other`` includes the time that no operator accounts for.

    Args:
        operators: The seconds of each group.
        seconds: The seconds of the same steps without the profiler; where operators took more under it, which slows
            small ones a little, they make up all.
    """
    whole = max(seconds, sum(operators.values()))
    found = {group: operators[group] / whole for group in GROUPS}
    found["other"] += 1 - sum(found.values())
    return found
