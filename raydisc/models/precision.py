"""The precision that models compute in.

In bfloat16 every model runs under autocast, the frozen ones too: matrix multiplications are in bfloat16; parameters,
gradients, optimiser state, norms, the residual stream, losses and metrics stay in float32. A frozen model's weights lie
in shared memory in float32, so that weights of its own in bfloat16 would be a private copy for each trial, and two ways
of rounding a model; autocast rounds them in each forward instead, which moves six bytes for each weight where the
forward of a batch does thousands of operations with it.

In float32 a GPU rounds nothing to TF32: whoever can do without float32's digits has bfloat16, on the same devices.
"""

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
"""The type of the matrix multiplications of forwards and backwards."""


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that the last bits of a result depend on, besides inputs and settings; part of every stage's key.

    Attributes:
        threads: The number of threads of the CPU that computes; None on other devices.
        precision: The precision of the models.
        layout: The layout of the workers that share a stage (``parallel.mesh.Layout``), since sums depend on it; None
            for a single worker.
        teacher_layout: The layout of the workers that share a stage of the teacher.
    """

    threads: int | None
    precision: Precision = "float32"
    layout: str | None = None
    teacher_layout: str | None = None


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward; losses and backwards are computed outside of it."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device of this process multiplies bfloat16 matrices itself, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine() in ("x86_64", "AMD64"):  # oneDNN also counts CPUs that emulate it with AVX-512
        return torch.cpu._is_avx512_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
