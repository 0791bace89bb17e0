"""How near several workers come to one."""

import numpy as np

NOTHING_BUT_ROUNDING = ("key.bias", "k_lin.bias")
"""Softmax does not see a key's bias: its gradient is zero, and AdamW makes steps of what rounding leaves there."""


def close(found, wanted, tolerance=1e-5):
    """Each within a tolerance of its norm, or of a hundredth of the norm of all."""
    norms = {name: np.linalg.norm(tensor.astype(np.float64)) for name, tensor in wanted.items()}
    least = 0.01 * np.linalg.norm(list(norms.values()))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        error = np.linalg.norm(found[name].astype(np.float64) - tensor)
        assert error <= tolerance * max(norms[name], least), f"{name}: {error} of {norms[name]}"


def seen(weights):
    """The weights that what a model computes depends on."""
    return {name: tensor for name, tensor in weights.items() if not name.endswith(NOTHING_BUT_ROUNDING)}
