"""Tensors over memory that other processes read too."""

import warnings

import numpy as np
import torch


def shared_tensor(memory: np.ndarray, dtype: torch.dtype, offset: int = 0, count: int = -1) -> torch.Tensor:
    """A flat tensor that aliases read-only memory; whoever trains it must copy it first.

    Args:
        memory: contiguous, of any type.
        dtype: of the tensor.
        offset: bytes before the first element.
        count: elements; -1 for all that follow.
    """
    if count == 0 or memory.nbytes == 0:
        return torch.empty(0, dtype=dtype)
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so each time; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(memory.data, dtype=dtype, offset=offset, count=count)
