"""The rank of a worker among those that compute a stage together, and the collectives between them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from raydisc.parallel.mesh import Layout

_BUCKET_BYTES = 2**26
"""The bytes of gradients that one all-reduce sums; it bounds the copy that this takes."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Rank:
    """One worker of a group; all workers of a stage call the same collectives in the same order.

    Attributes:
        index: The number of this rank; 0 leads, that is, reports progress and writes what only one rank may write.
        layout: The layout of all workers.
        mesh: The mesh on which weights are sharded, or None where every worker holds them whole.
    """

    index: int = 0
    layout: Layout = Layout()
    mesh: DeviceMesh | None = None

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.layout.workers

    @property
    def leads(self) -> bool:
        """Whether this rank reports progress and writes what only one rank may write."""
        return self.index == 0

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of the workers' tensors, the same on all of them."""
        if self.workers == 1:
            return tensor
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
        return tensor

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any worker has set it, the same on all workers."""
        return tuple(bool(count) for count in self.total(torch.tensor(flags, dtype=torch.int32)).tolist())

    def from_leader(self, value: Value) -> Value:
        """Return the leader's value on every worker."""
        if self.workers == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def each(self, value: Value) -> list[Value]:
        """Return the values of all workers in the order of their ranks."""
        if self.workers == 1:
            return [value]
        held = [value] * self.workers
        distributed.all_gather_object(held, value)
        return held

    def all_of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all workers in the order of their ranks; all have one shape."""
        if self.workers == 1:
            return [tensor]
        tensors = [torch.empty_like(tensor) for _ in range(self.workers)]
        distributed.all_gather(tensors, tensor)
        return tensors

    def wait(self) -> None:
        """Wait until every worker has called this."""
        if self.workers > 1:
            distributed.barrier()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of weights that every worker holds whole; FSDP has summed those of sharded weights."""
        if self.workers == 1:
            return
        whole = [it.grad for it in parameters if it.grad is not None and not isinstance(it.grad, DTensor)]
        for bucket in _buckets(whole):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            distributed.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))


def _buckets(gradients: list[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    size = 0
    for gradient in gradients:
        bucket.append(gradient)
        size += gradient.nbytes
        if size >= _BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


ALONE = Rank()
"""The rank of a stage's only worker."""
