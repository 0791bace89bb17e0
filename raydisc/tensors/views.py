"""Views of the tensors in a safetensors file that lies in memory."""

import math
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, NonNegativeInt, TypeAdapter

from raydisc.tensors.shared_memory import shared_tensor

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "U8": torch.uint8,
}


class _Entry(BaseModel):
    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_HEADER, _ENTRIES = TypeAdapter(dict[str, Any]), TypeAdapter(dict[str, _Entry])


def tensor_views(image: np.ndarray) -> dict[str, torch.Tensor]:
    """Return tensors that alias a safetensors image ``[bytes]``, without a copy.

    Raises:
        ValueError: The image is damaged: tensors lie beyond its end, over each other or apart, or are not of the size
            that they say.
    """
    body = 8 + int.from_bytes(image[:8].tobytes(), "little")
    if len(image) < body:
        raise ValueError("the header of the tensor file is cut short")
    header = _HEADER.validate_json(image[8:body].tobytes())
    header.pop("__metadata__", None)
    entries = _ENTRIES.validate_python(header)
    end = 0
    for begin, after in sorted(entry.data_offsets for entry in entries.values()):
        if begin != end:
            raise ValueError("tensors of the file lie over each other or apart")
        end = after
    if body + end != len(image):
        raise ValueError("the tensor file is not as long as its header says")
    return {name: _view(image[body:], entry) for name, entry in entries.items()}


def _view(body: np.ndarray, entry: _Entry) -> torch.Tensor:
    begin, end = entry.data_offsets
    dtype = _DTYPES[entry.dtype]
    count = math.prod(entry.shape)
    if end - begin != count * dtype.itemsize:
        raise ValueError("a tensor of the file is not of the size that its shape says")
    try:
        return shared_tensor(body, dtype, offset=begin, count=count).view(entry.shape)
    except (RuntimeError, OverflowError) as error:
        raise ValueError("a tensor of the file has a shape that none can have") from error
