"""AdamW with decay groups, warm-up and linear decay."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.shard import whole

_NORM = re.compile(r"Norm(\dd)?$")
"""The end of the names of norms, such as ``LayerNorm``, ``T5LayerNorm`` and ``BatchNorm1d``."""


@dataclass(frozen=True)
class OptimiserSettings:
    """The settings of AdamW and of its learning rate.

    Attributes:
        lr: The peak learning rate.
        warmup: The share of the steps in which the learning rate rises.
        weight_decay: The weight decay of matrices; biases and norms do not decay.
        max_grad_norm: The norm to which gradients are clipped.
        beta2: The second beta of AdamW.
    """

    lr: float
    warmup: float
    weight_decay: float
    max_grad_norm: float
    beta2: float = 0.999


def adamw(model: nn.Module, trained: Sequence[nn.Parameter], settings: OptimiserSettings) -> torch.optim.AdamW:
    """Return a fused AdamW over parameters of a model, of which those of ``undecayed`` do not decay."""
    spared = {id(parameter) for parameter in undecayed(model)}
    groups = [
        {"params": [p for p in trained if id(p) not in spared], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2), fused=True)


def undecayed(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the biases and norms of a model, also where those of several experts are one matrix, and other vectors."""
    for module in model.modules():
        is_norm = _NORM.search(type(module).__name__) is not None
        for name, parameter in module.named_parameters(recurse=False):
            if is_norm or name.endswith("bias") or parameter.ndim <= 1:
                yield parameter


def descend(
    optimiser: torch.optim.Optimizer, trained: Sequence[nn.Parameter], max_grad_norm: float, rank: Rank = ALONE
) -> torch.Tensor:
    """Do an optimiser's step by the gradients that are there, and remove them.

    Args:
        optimiser: The optimiser.
        trained: Its parameters.
        max_grad_norm: The norm that gradients are clipped to.
        rank: The rank of this worker; the gradients of all workers are added up.

    Returns:
        The norm of the gradients before they were clipped, a scalar on the device.
    """
    rank.add_gradients(trained)
    norm = whole(nn.utils.clip_grad_norm_(trained, max_grad_norm))
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm


def decayed(steps: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Return the factor by which an entry of a matrix decays in the first ``steps`` steps if its gradient is zero."""
    return math.prod(1 - lr_at(step, total_steps, settings) * settings.weight_decay for step in range(steps))


def lr_at(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Return the learning rate of a step, from 0: linear warm-up to ``lr``, then linear decay towards 0."""
    warmup_steps = round(settings.warmup * total_steps)
    if step < warmup_steps:
        return settings.lr * (step + 1) / warmup_steps
    return settings.lr * (total_steps - step) / max(1, total_steps - warmup_steps)
