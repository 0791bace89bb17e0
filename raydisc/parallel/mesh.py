"""How the workers of a stage are laid out: copies of the weights, and shards of each copy."""

import math
from dataclasses import dataclass
from typing import Literal

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from raydisc.errors import InputError

Parallel = Literal["auto", "data", "shard", "hybrid"]
"""``data``: every worker holds all weights; ``shard``: a part of them; ``hybrid``: groups of workers a copy each."""

STATE_BYTES = 16
"""Of a parameter that is trained: the weight, its gradient and AdamW's two moments in float32."""

_ROOM = 0.7
"""Of a device's memory, for that state; activations and batches need the rest."""


@dataclass(frozen=True)
class Layout:
    """Workers as ``replicate`` copies of the weights, each cut into ``shard`` parts."""

    replicate: int = 1
    shard: int = 1

    @property
    def workers(self) -> int:
        """All of them."""
        return self.replicate * self.shard

    def __str__(self) -> str:
        """As keys and people read it: copies × shards."""
        return f"{self.replicate}x{self.shard}"

    def mesh(self, device_type: str) -> DeviceMesh:
        """The mesh of this process group's devices; the workers of a copy are neighbours."""
        if self.replicate == 1:
            return init_device_mesh(device_type, (self.shard,), mesh_dim_names=("shard",))
        return init_device_mesh(device_type, (self.replicate, self.shard), mesh_dim_names=("replicate", "shard"))


def layout_of(workers: int, parallel: Parallel, shard: int | None, parameters: int, device_bytes: float) -> Layout:
    """The layout that a trial's settings stand for.

    Args:
        workers: of a trial.
        parallel: how they share the work; ``auto`` shards what one device cannot train.
        shard: workers that hold one copy of the weights together, of ``hybrid``.
        parameters: of the teacher.
        device_bytes: memory of one worker's device.

    Raises:
        InputError: the copies do not divide the workers.
    """
    if parallel == "auto":
        parallel = "data" if parameters * STATE_BYTES <= _ROOM * device_bytes else "shard"
    if parallel == "data":
        return Layout(replicate=workers)
    if parallel == "shard":
        return Layout(shard=workers)
    if shard is None or workers % shard:
        raise InputError(
            f"resources.shard: copies of {shard} workers do not divide {workers} workers; "
            f"give one of {', '.join(str(size) for size in _divisors(workers))}"
        )
    return Layout(workers // shard, shard)


def fewest_workers(parameters: int, device_bytes: float) -> int:
    """Workers that it takes to hold the training state of a model, sharded."""
    return math.ceil(parameters * STATE_BYTES / (_ROOM * device_bytes))


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]
