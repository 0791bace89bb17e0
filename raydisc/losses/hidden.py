"""Losses between matched hidden states."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from raydisc.losses.base import Loss, Part
from raydisc.models.forward import Outputs
from raydisc.signals.hidden import HiddenStates
from raydisc.tasks.tokenised import Batch


class HiddenMSE(Loss):
    """The mean squared difference of the matched hidden states over real tokens (arXiv 2205.14570, section 3.3).

    The formula is ``sum (h - g)² / (K T D)`` over K matched positions, T real tokens and the hidden size D, with hidden
    states h of the student and g of the teacher.
    """

    name = "hidden_mse"
    needs = frozenset({HiddenStates})

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``; the temperature plays no part."""
        mask = None
        if batch.real_tokens < batch.tokens:
            mask = batch.attention_mask.unsqueeze(-1).to(student.hidden[0].dtype)
        distances = [
            _SquaredError.apply(mine, theirs, mask)  # type: ignore[no-untyped-call]
            for mine, theirs in _pairs(student, teacher)
        ]
        return torch.stack(distances).sum(), batch.mean_tokens * len(student.hidden) * student.hidden[0].shape[-1]


class HiddenCosine(Loss):
    """One minus the cosine similarity of the matched hidden states, averaged over positions and real tokens.

    The formula is ``sum (1 - cos(h, g)) / (K T)`` over K matched positions and T real tokens, with hidden states h of
    the student and g of the teacher.
    """

    name = "hidden_cosine"
    needs = frozenset({HiddenStates})

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``; the temperature plays no part."""
        total = torch.stack(
            [
                ((1 - functional.cosine_similarity(mine, theirs.to(mine.dtype), dim=-1)) * batch.attention_mask).sum()
                for mine, theirs in _pairs(student, teacher)
            ]
        ).sum()
        return total, batch.mean_tokens * len(student.hidden)


class _SquaredError(torch.autograd.Function):
    """The sum of squared differences; only the difference is kept for the backward, where it becomes the gradient."""

    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the sum over two ``[B, S, D]`` tensors, where the mask ``[B, S, 1]`` of ones and zeros is one."""
        difference = mine - theirs
        if mask is not None:
            difference *= mask
        ctx.save_for_backward(difference)
        return torch.dot(difference.flatten(), difference.flatten())

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient with respect to ``mine``."""
        [difference] = ctx.saved_tensors
        return difference.mul_(2 * upstream), None, None


def _pairs(student: Outputs, teacher: Outputs) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(student.hidden, teacher.hidden, strict=True)
