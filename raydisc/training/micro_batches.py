"""Steps on parts of a batch, one after another, where a device has no room for all of it at once."""

import re

import torch

from raydisc.tasks.tokenised import Batch
from raydisc.training.loop import Step

_CPU_ALLOCATION = re.compile(r"DefaultCPUAllocator|can't allocate memory|could not create a (?:primitive|memory)")
"""In the words of torch and of oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, had no room for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATION.search(str(error)) is not None


def micro_batches_of(batch: Batch, count: int) -> list[Batch]:
    """A worker's share of a batch in so many parts, whose losses and gradients add up to its own.

    As every worker has to do the same, parts without rows are among them.
    """
    return [batch.share(number, count) for number in range(count)]


def in_micro_batches(step: Step, count: int) -> Step:
    """A step whose gradients are accumulated over micro-batches: the same effective batch in less memory.

    Args:
        step: adds gradients to those that are there; the FLOPs it tells are those of the whole batch.
        count: of micro-batches.
    """

    def stepped(batch: Batch, index: int) -> tuple[torch.Tensor, float]:
        done = [step(part, index) for part in micro_batches_of(batch, count)]
        return torch.stack([loss for loss, _ in done]).sum(), sum(flops for _, flops in done) / count

    return step if count == 1 else stepped
