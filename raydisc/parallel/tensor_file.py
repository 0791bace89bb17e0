"""Safetensors files that are written tensor by tensor, by one worker or by all, each its own rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.distributed.tensor import DTensor, Replicate

from raydisc.parallel.load_shards import row_range
from raydisc.parallel.rank import Rank
from raydisc.tensors.lazy_state import State, described

_TYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
}  # fmt: skip
"""The names of types in a header, in reverse of their order in a file."""

_ALIGNMENT = 8


@dataclass(frozen=True)
class TensorFile:
    """A file of tensors to be written; all workers write a file of sharded tensors together.

    Attributes:
        state: Whole tensors, each made when it is written, or sharded ones.
        rank: The rank of this worker.
    """

    state: State
    rank: Rank

    @property
    def together(self) -> bool:
        """Whether every worker must call this object."""
        return self.rank.mesh is not None

    def __call__(self, path: Path) -> None:
        """Write the file; where all workers write together, the leader's path counts."""
        if not self.together:
            if self.rank.leads:  # another worker that has the same tensors would empty the file as it opens it
                _write(path, self.state, self.rank)
            return
        path = self.rank.from_leader(path)
        if self.rank.leads:
            path.touch()
        self.rank.wait()
        _write(path, self.state, self.rank)
        self.rank.wait()


def _write(path: Path, state: State, rank: Rank) -> None:
    header, begins = _layout(state)
    with path.open("r+b" if path.exists() else "wb") as file:
        if rank.leads:
            file.write(len(header).to_bytes(8, "little") + header)
        for name, begin in begins.items():
            tensor = state[name]
            if _writes(tensor, rank):
                _write_rows(file, 8 + len(header) + begin, tensor)


def _layout(state: State) -> tuple[bytes, dict[str, int]]:
    """Return the header and the offset of each tensor behind it, in the order of the safetensors library."""
    types, found = list(_TYPES), {name: described(state, name) for name in state}
    begins: dict[str, int] = {}
    entries: dict[str, Any] = {}
    end = 0
    for name in sorted(found, key=lambda name: (-types.index(found[name].dtype), name)):
        like = found[name]
        begins[name], end = end, end + like.nbytes
        entries[name] = {"dtype": _TYPES[like.dtype], "shape": list(like.shape), "data_offsets": [begins[name], end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return header + b" " * (-len(header) % _ALIGNMENT), begins


def _writes(tensor: torch.Tensor, rank: Rank) -> bool:
    """Whether this worker writes its rows of a tensor; of workers with the same rows one does."""
    if not isinstance(tensor, DTensor):
        return rank.leads
    return all(
        tensor.device_mesh.get_local_rank(axis) == 0
        for axis, placement in enumerate(tensor.placements)
        if isinstance(placement, Replicate)
    )


def _write_rows(file: BinaryIO, begin: int, tensor: torch.Tensor) -> None:
    """Write the rows that this worker holds of a tensor whose first byte is at ``begin``."""
    first, _ = row_range(tensor)
    own = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach().contiguous().cpu()
    rows = max(1, len(own)) if own.ndim else 1
    file.seek(begin + first * (own.nbytes // rows))
    file.write(own.flatten().view(torch.uint8).numpy().data)
