"""Weights into a sharded model: each worker copies its own rows, one tensor at a time."""

from typing import cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from raydisc.models.task_heads import weights_of
from raydisc.tensors.lazy_state import State


def load_shards(model: nn.Module, state: State, device: torch.device) -> None:
    """Give a sharded model that was built on the meta device its memory and its weights.

    Args:
        model: its weights are sharded by rows.
        state: whole weights by name; views of a file, of which nothing but this worker's rows is read.
        device: of this worker.
    """
    model.to_empty(device=device)
    for name, target in weights_of(model).items():
        own = target.to_local() if isinstance(target, DTensor) else target
        own.copy_(own_rows(target, state[name]))
    _fill_buffers(cast(PreTrainedModel, model))


def own_rows(sharded: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The rows of a whole tensor that this worker holds of the sharded one."""
    start, stop = row_range(sharded)
    return tensor[start:stop] if tensor.ndim else tensor


def row_range(tensor: torch.Tensor) -> tuple[int, int]:
    """The rows of a tensor that this worker holds, from and to; all where it is whole."""
    if not isinstance(tensor, DTensor):
        return 0, len(tensor) if tensor.ndim else 1
    axis = next(number for number, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    parts, part = tensor.device_mesh.size(axis), tensor.device_mesh.get_local_rank(axis)
    start = min(part * -(-len(tensor) // parts), len(tensor))
    return start, start + len(tensor.to_local())


def _fill_buffers(model: PreTrainedModel) -> None:
    """What no file holds (positions, rotary frequencies) as the model's own code makes it; weights are left alone."""
    for tensor in model.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True
    model.initialize_weights()
