"""The comparison of two computations of the same numbers in different orders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

NOTHING_BUT_ROUNDING = ("key.bias", "k_lin.bias")
"""Softmax does not see a key's bias: its gradient is zero, and AdamW makes steps of what rounding leaves there."""


def assert_near(found: Any, wanted: Any, tolerance: float = 1e-5, least: float = 0.0, name: str = "the tensor") -> None:
    """Check that a tensor or array differs from another by a small part of the other's norm.

    Each kind of CPU adds up in an order of its own, with other instructions and another number of threads. The
    rounding error that this leaves in an element is as large as the numbers that went into its sum, however near to
    zero the element is, and so it grows with the tensor and not with the element. A bound for each element, found on
    one machine, therefore fails on the next, whereas the distance relative to the norm stays near float32's rounding,
    6e-8, on all of them; and a defect, such as a wrong factor or a dropped bias, moves it by far more.

    Numbers that the same operations compute on the same machine are the same bits: compare those with ``torch.equal``.

    Args:
        found: The tensor or array to check.
        wanted: What it should be, of the same shape and type.
        tolerance: The largest difference, as a part of the norm.
        least: The norm to measure by where the tensor's own is smaller, such as that of a gradient that is zero.
        name: What a failure calls the tensor.
    """
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), name
    mine, theirs = _in_double(found), _in_double(wanted)
    error, norm = float(np.linalg.norm(mine - theirs)), max(float(np.linalg.norm(theirs)), least)
    assert error <= tolerance * norm, f"{name} differs by {error:.3g}, more than {tolerance:g} of its norm, {norm:.3g}"


def assert_all_near(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    """Check weights or gradients by name, each by its own norm or by a hundredth of the norm of all.

    Args:
        found: The tensors or arrays to check.
        wanted: What they should be, under the same names.
        tolerance: The largest difference of each, as a part of the norm.
    """
    assert found.keys() == wanted.keys()
    least = 0.01 * np.linalg.norm([np.linalg.norm(_in_double(tensor)) for tensor in wanted.values()])
    for name, tensor in wanted.items():
        assert_near(found[name], tensor, tolerance, float(least), name)


def seen(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that what a model computes depends on."""
    return {name: tensor for name, tensor in weights.items() if not name.endswith(NOTHING_BUT_ROUNDING)}


def _in_double(values: Any) -> Any:
    """Return a tensor or array, flattened, as an array of float64."""
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else values.astype(np.float64)
    return array.ravel()
