"""Loading weights into a sharded model: each worker copies its own rows, one tensor at a time."""

from typing import cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from raydisc.models.task_heads import weights_of
from raydisc.tensors.lazy_state import State


def load_shards(model: nn.Module, state: State, device: torch.device) -> None:
    """Allocate and load the weights of a sharded model that was built on the meta device.

    Args:
        model: A model whose weights are sharded by rows.
        state: Whole weights by name; of views of a file only this worker's rows are read.
        device: The device of this worker.
    """
    model.to_empty(device=device)
    for name, target in weights_of(model).items():
        own = target.to_local() if isinstance(target, DTensor) else target
        own.copy_(own_rows(target, state[name]))
    _fill_buffers(cast(PreTrainedModel, model))


def own_rows(sharded: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return those rows of a whole tensor that this worker holds of the sharded one."""
    start, stop = row_range(sharded)
    return tensor[start:stop] if tensor.ndim else tensor


def own_copy(tensor: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """Return a copy of a whole tensor, of which each worker has its own rows where one of its shape is sharded."""
    if not isinstance(like, DTensor) or like.shape != tensor.shape:
        return tensor.clone()
    copy = cast(DTensor, torch.empty_like(like, dtype=tensor.dtype))
    copy.to_local().copy_(own_rows(like, tensor))
    return copy


def row_range(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first row of a tensor that this worker holds, and the row after its last; all rows of a whole one."""
    if not isinstance(tensor, DTensor):
        return 0, len(tensor) if tensor.ndim else 1
    axis = next(number for number, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    parts, part = tensor.device_mesh.size(axis), tensor.device_mesh.get_local_rank(axis)
    start = min(part * -(-len(tensor) // parts), len(tensor))
    return start, start + len(tensor.to_local())


def _fill_buffers(model: PreTrainedModel) -> None:
    """Fill the buffers that no file holds (positions, rotary frequencies) by the model's own code; keep the weights."""
    for tensor in model.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True
    model.initialize_weights()
