"""Steps on parts of a batch, one after another, where a device has no room for all of it at once."""

import re
from collections.abc import Callable

import torch

from raydisc.tasks.tokenised import Batch

Learn = Callable[[Batch], torch.Tensor]
"""Runs forward and backward on a batch; leaves gradients, and returns the loss, detached."""

_CPU_ALLOCATION = re.compile(r"DefaultCPUAllocator|can't allocate memory|could not create a (?:primitive|memory)")
"""The words with which torch and oneDNN report that a host has no memory left."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, had no room for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATION.search(str(error)) is not None


def micro_batches_of(batch: Batch, count: int) -> list[Batch]:
    """Return a worker's share of a batch in ``count`` parts, whose losses and gradients add up to those of the share.

    Some parts may have no rows, since all workers have to run the same number of them.
    """
    return [batch.share(number, count) for number in range(count)]


def in_micro_batches(learn: Learn, count: int) -> Learn:
    """Accumulate gradients over micro-batches: the same effective batch in less memory.

    Args:
        learn: Runs forward and backward on a batch, adds to the gradients that are there, and returns the loss.
        count: The number of micro-batches.
    """

    def learned(batch: Batch) -> torch.Tensor:
        return torch.stack([learn(part) for part in micro_batches_of(batch, count)]).sum()

    return learn if count == 1 else learned
