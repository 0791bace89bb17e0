"""How the workers of a stage are laid out: copies of the weights, and shards of each copy."""

import math
from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from raydisc.errors import InputError
from raydisc.settings import ResourcesConfig

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

    def smaller(self, workers: int) -> "Layout":
        """A layout of the same kind for so many workers or, of a hybrid one, as many as make whole copies."""
        if self.shard == 1:
            return Layout(replicate=workers)
        if self.replicate == 1 or workers < self.shard:
            return Layout(shard=workers)
        return Layout(workers // self.shard, self.shard)

    def __str__(self) -> str:
        """As keys and people read it: copies × shards."""
        return f"{self.replicate}x{self.shard}"

    def mesh(self, device_type: str) -> DeviceMesh:
        """The mesh of this process group's devices; the workers of a copy are neighbours."""
        if self.replicate == 1:
            return init_device_mesh(device_type, (self.shard,), mesh_dim_names=("shard",))
        return init_device_mesh(device_type, (self.replicate, self.shard), mesh_dim_names=("replicate", "shard"))


def layout_of(resources: ResourcesConfig, parameters: int, device_bytes: float) -> Layout:
    """The layout that a trial's settings stand for.

    Args:
        resources: of a trial; ``parallel: auto`` shards what one device cannot train.
        parameters: of the teacher.
        device_bytes: memory of one worker's device.

    Raises:
        InputError: the workers cannot hold what training keeps of the teacher.
    """
    workers, parallel = resources.workers, resources.parallel
    state = parameters * STATE_BYTES
    if parallel == "auto":
        parallel = "data" if state <= _ROOM * device_bytes else "shard"
    parts = {"data": 1, "shard": workers, "hybrid": resources.shard or 1}[parallel]
    if workers > 1 and not resources.offload and state > parts * device_bytes:
        needed = math.ceil(state / (_ROOM * device_bytes))
        raise InputError(
            f"resources.workers: {_gib(state)} of weights, gradients and AdamW's moments do not fit {parts} "
            f"device{'s' * (parts > 1)} of {_gib(device_bytes)}; it takes {needed} workers with parallel: shard"
        )
    return Layout(workers // parts, parts)


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"
