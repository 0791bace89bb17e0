"""A word embedding of which each worker holds some rows: tokens travel to the rows, and never the table to a worker.

The table is the largest weight of many models, and what is looked up in it for a batch is small.
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
        rank: of this worker.
    """

    rank: Rank

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name is nn.Embedding's
        """The vectors ``[B, S, D]`` of this worker's tokens ``[B, S]``; every worker must ask, for as long rows."""
        mesh = self.rank.mesh
        assert mesh is not None
        group = mesh.get_group("shard")
        tokens = _of_all(input, group)
        first, last = row_range(self.weight)
        own = (tokens >= first) & (tokens < last)
        rows = cast(DTensor, self.weight).to_local()
        found = functional.embedding((tokens - first).where(own, 0), rows) * own.unsqueeze(-1)
        vectors = found.new_empty(found.shape[1:])
        distributed.reduce_scatter_single(vectors, found.flatten(0, 1), group=group)  # all but one are zeros
        return vectors[: len(input)]


def _of_all(tokens: torch.Tensor, group: distributed.ProcessGroup) -> torch.Tensor:
    """The tokens of all workers of a group ``[N, most rows, S]``; shares of a batch differ by a row."""
    most = torch.tensor(len(tokens), device=tokens.device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX, group=group)
    padded = functional.pad(tokens, (0, 0, 0, int(most) - len(tokens)))
    found = padded.new_empty(group.size(), *padded.shape)
    distributed.all_gather_single(found.flatten(0, 1), padded, group=group)
    return found


def look_up_by_rows(embedding: nn.Embedding, rank: Rank) -> nn.Parameter:
    """Have each worker hold some rows of an embedding on the meta device, in place; gives its weight.

    An embedding with a forward of its own, such as one that scales, keeps it.
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
