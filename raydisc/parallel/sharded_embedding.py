"""A word embedding whose rows are spread over workers: tokens are sent to the rows, never the table to a worker.

The table is the largest weight of many models, while the vectors of a batch are small.
"""

from typing import cast

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn import functional

from raydisc.parallel.load_shards import row_range
from raydisc.parallel.rank import Rank


class RowsEmbedding(nn.Embedding):
    """A frozen embedding whose weight ``[V, D]`` is sharded by rows.

    Attributes:
        rank: The rank of this worker.
    """

    rank: Rank

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name is nn.Embedding's
        """Return the vectors ``[B, S, D]`` of this worker's tokens ``[B, S]``; all workers must call with one S."""
        mesh = self.rank.mesh
        assert mesh is not None
        group = mesh.get_group("shard")
        tokens = _of_all(input, group)
        first, last = row_range(self.weight)
        own = (tokens >= first) & (tokens < last)
        rows = cast(DTensor, self.weight).to_local()
        found = functional.embedding((tokens - first).where(own, 0), rows) * own.unsqueeze(-1)
        vectors = found.new_empty(found.shape[1:])
        distributed.reduce_scatter_single(vectors, found.flatten(0, 1), group=group)  # all but one summand are zeros
        return vectors[: len(input)]


def _of_all(tokens: torch.Tensor, group: distributed.ProcessGroup) -> torch.Tensor:
    """Return the tokens of a group's N workers ``[N, B, S]``, with B the most rows that any of them has."""
    most = torch.tensor(len(tokens), device=tokens.device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX, group=group)
    padded = functional.pad(tokens, (0, 0, 0, int(most) - len(tokens)))
    found = padded.new_empty(group.size(), *padded.shape)
    distributed.all_gather_single(found.flatten(0, 1), padded, group=group)
    return found


def look_up_by_rows(embedding: nn.Embedding, rank: Rank) -> nn.Parameter:
    """Spread the rows of an embedding on the meta device over workers, in place, and return its sharded weight.

    An embedding with a forward pass of its own, such as one that scales, keeps it.
    """
    assert rank.mesh is not None
    kind = type(embedding)
    bases = (RowsEmbedding,) if kind is nn.Embedding else (kind, RowsEmbedding)
    embedding.__class__ = type(f"Rows{kind.__name__}", bases, {})
    rows = cast(RowsEmbedding, embedding)
    rows.rank = rank
    weight, parts = rows.weight, rank.layout.shard
    size = -(-len(weight) // parts)
    part = rank.mesh.get_local_rank("shard")
    held = max(0, min(size, len(weight) - part * size))
    placements = [Shard(0)] if rank.mesh.ndim == 1 else [Replicate(), Shard(0)]
    local = torch.empty(held, weight.shape[1], dtype=weight.dtype, device="meta")
    sharded = DTensor.from_local(
        local, rank.mesh, placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
    rows.weight = nn.Parameter(sharded, requires_grad=False)
    return rows.weight
