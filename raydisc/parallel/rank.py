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
"""Gradients that are added up in one go; bounds the copy that this takes."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Rank:
    """One worker of a group; all workers of a stage call the same collectives in the same order.

    Attributes:
        index: The number of this rank; 0 leads, that is, reports progress and writes what only one rank may write.
        layout: of all workers.
        mesh: on which weights are sharded; None where every worker holds them whole.
    """

    index: int = 0
    layout: Layout = Layout()
    mesh: DeviceMesh | None = None

    @property
    def workers(self) -> int:
        """How many there are."""
        return self.layout.workers

    @property
    def leads(self) -> bool:
        """Whether this is the one that tells and writes."""
        return self.index == 0

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of the workers' tensors, the same on all."""
        if self.workers == 1:
            return tensor
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
        return tensor

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is up on some worker, the same on all."""
        return tuple(bool(count) for count in self.total(torch.tensor(flags, dtype=torch.int32)).tolist())

    def from_leader(self, value: Value) -> Value:
        """The leader's value, on every worker."""
        if self.workers == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def all_of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Every worker's tensor, all of one shape, by rank."""
        if self.workers == 1:
            return [tensor]
        tensors = [torch.empty_like(tensor) for _ in range(self.workers)]
        distributed.all_gather(tensors, tensor)
        return tensors

    def wait(self) -> None:
        """Wait until all have come this far."""
        if self.workers > 1:
            distributed.barrier()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of weights that every worker holds whole; those of sharded weights are added already."""
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
