"""How the workers of a stage are laid out: copies of the weights, and shards of each copy."""

from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh


@dataclass(frozen=True)
class Layout:
    """Workers as ``replicate`` copies of the weights, each cut into ``shard`` parts.

    Attributes:
        replicate: copies.
        shard: workers that share a copy.
        once: whether a step synchronises once, with sharded weights and gradients unsharded meanwhile, or sharded again
            after every candidate, which takes less memory.
    """

    replicate: int = 1
    shard: int = 1
    once: bool = True

    @property
    def workers(self) -> int:
        """All of them."""
        return self.replicate * self.shard

    def smaller(self, workers: int) -> "Layout":
        """A layout of the same kind for so many workers or, of a hybrid one, as many as make whole copies."""
        if self.shard == 1:
            return Layout(workers, 1, self.once)
        if self.replicate == 1 or workers < self.shard:
            return Layout(1, workers, self.once)
        return Layout(workers // self.shard, self.shard, self.once)

    def __str__(self) -> str:
        """As keys and people read it: copies × shards."""
        return f"{self.replicate}x{self.shard}{'' if self.once else ' by candidate'}"

    def mesh(self, device_type: str) -> DeviceMesh:
        """The mesh of this process group's devices; the workers of a copy are neighbours."""
        if self.replicate == 1:
            return init_device_mesh(device_type, (self.shard,), mesh_dim_names=("shard",))
        return init_device_mesh(device_type, (self.replicate, self.shard), mesh_dim_names=("replicate", "shard"))
