"""The layout of a stage's workers: copies of the weights, and shards of each copy."""

from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh


@dataclass(frozen=True)
class Layout:
    """Workers as ``replicate`` copies of the weights, each cut into ``shard`` parts.

    Attributes:
        replicate: The number of copies.
        shard: The number of workers that share a copy.
        once: Whether a step sums gradients once, with weights and gradients unsharded meanwhile; otherwise both are
            sharded again after every candidate, which takes less memory.

    Example:
        >>> layout = Layout(replicate=2, shard=4)
        >>> layout.workers, str(layout), str(layout.smaller(5))
        (8, '2x4', '1x4')
    """

    replicate: int = 1
    shard: int = 1
    once: bool = True

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.replicate * self.shard

    def smaller(self, workers: int) -> "Layout":
        """Return a layout of the same kind for fewer workers; a hybrid one leaves out those beyond whole copies."""
        if self.shard == 1:
            return Layout(workers, 1, self.once)
        if self.replicate == 1 or workers < self.shard:
            return Layout(1, workers, self.once)
        return Layout(workers // self.shard, self.shard, self.once)

    def __str__(self) -> str:
        """Return copies × shards, as keys and messages have it."""
        return f"{self.replicate}x{self.shard}{'' if self.once else ' by candidate'}"

    def mesh(self, device_type: str) -> DeviceMesh:
        """Return the mesh of this process group's devices, in which the workers of a copy are neighbours."""
        if self.replicate == 1:
            return init_device_mesh(device_type, (self.shard,), mesh_dim_names=("shard",))
        return init_device_mesh(device_type, (self.replicate, self.shard), mesh_dim_names=("replicate", "shard"))
