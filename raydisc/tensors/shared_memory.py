"""Tensors over memory that other processes read too."""

import warnings

import numpy as np
import torch


def shared_tensor(memory: np.ndarray, dtype: torch.dtype, offset: int = 0, count: int = -1) -> torch.Tensor:
    """Return a flat tensor that aliases read-only memory; it must be copied before it is trained.

    Args:
        memory: A contiguous array of any type.
        dtype: The data type of the tensor.
        offset: The number of bytes before the first element.
        count: The number of elements; -1 for all that follow.
    """
    if count == 0 or memory.nbytes == 0:
        return torch.empty(0, dtype=dtype)
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so each time; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(memory.data, dtype=dtype, offset=offset, count=count)
