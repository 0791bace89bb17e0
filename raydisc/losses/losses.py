"""Distillation losses behind one protocol.

A loss returns ``(sum, count)``: the sum over a worker's share of a batch and the count of the whole batch, so that the
workers' losses and gradients add up to those of one.
Shape letters: B rows, S tokens, D hidden size, C classes, K matched positions. For all losses over classes the rows of
a token classifier are the tokens with a tag; those of a language model, whose classes are tokens, the ones predicted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.nn import functional

from raydisc.errors import InputError
from raydisc.models.forward import Outputs
from raydisc.signals.top_tokens import grouped
from raydisc.tasks.tokenised import Batch

Part = tuple[torch.Tensor, float]
"""A loss's sum over a worker's share of a batch, and what to divide it by."""


class Loss(Protocol):
    """How far a student is from its teacher on a batch."""

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """The loss's sum and count."""
        ...


def hidden_mse(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """Squared error of the matched hidden states over real tokens (arXiv 2205.14570, section 3.3)."""
    mask = None
    if batch.real_tokens < batch.tokens:
        mask = batch.attention_mask.unsqueeze(-1).to(student.hidden[0].dtype)
    distances = [
        _SquaredError.apply(mine, theirs, mask)  # type: ignore[no-untyped-call]
        for mine, theirs in _pairs(student, teacher)
    ]
    return torch.stack(distances).sum(), batch.mean_tokens * len(student.hidden) * student.hidden[0].shape[-1]


class _SquaredError(torch.autograd.Function):
    """Sum of squared differences, of which nothing but the difference is kept, and that becomes the gradient."""

    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Of ``[B, S, D]`` tensors where the mask ``[B, S, 1]`` of ones and zeros, if there is one, is one."""
        difference = mine - theirs
        if mask is not None:
            difference *= mask
        ctx.save_for_backward(difference)
        return torch.dot(difference.flatten(), difference.flatten())

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient with respect to ``mine``."""
        [difference] = ctx.saved_tensors
        return difference.mul_(2 * upstream), None, None


def hidden_cosine(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """One minus the cosine of the matched hidden states over real tokens."""
    total = torch.stack(
        [
            ((1 - functional.cosine_similarity(mine, theirs.to(mine.dtype), dim=-1)) * batch.attention_mask).sum()
            for mine, theirs in _pairs(student, teacher)
        ]
    ).sum()
    return total, batch.mean_tokens * len(student.hidden)


def soft_cross_entropy(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """Cross entropy of the student under the teacher's softened classes, times τ² (Hinton et al. 2015)."""
    target = functional.softmax(teacher.logits / temperature, dim=-1)
    total = -(target * functional.log_softmax(student.logits / temperature, dim=-1)).sum()
    return total * temperature**2, batch.mean_labels


def kl_forward(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """KL(teacher ‖ student) of the softened classes, times τ²."""
    return _kl(teacher.logits, student.logits, temperature) * temperature**2, batch.mean_labels


def kl_reverse(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """KL(student ‖ teacher) of the softened classes, times τ²."""
    return _kl(student.logits, teacher.logits, temperature) * temperature**2, batch.mean_labels


def kl_symmetric(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """Mean of the forward and the reverse KL."""
    forward, count = kl_forward(student, teacher, batch, temperature)
    return (forward + kl_reverse(student, teacher, batch, temperature)[0]) / 2, count


def jsd(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """Jensen-Shannon divergence of the softened classes, times τ²."""
    mixture = torch.logaddexp(
        functional.log_softmax(student.logits / temperature, dim=-1),
        functional.log_softmax(teacher.logits / temperature, dim=-1),
    ) - torch.log(torch.tensor(2.0))
    # the mixture is normalised already, so it passes through a softmax at temperature 1 unchanged
    halves = _kl(student.logits / temperature, mixture, 1.0) + _kl(teacher.logits / temperature, mixture, 1.0)
    return halves / 2 * temperature**2, batch.mean_labels


def logit_mse(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """Squared error of the logits: the soft loss of a regression task."""
    return (student.logits - teacher.logits).square().sum(), batch.mean_labels * student.logits.shape[-1]


def label(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
    """The task's own loss: cross entropy of the labels, or squared error for regression."""
    return task_loss(student.logits, batch)


def task_loss(logits: torch.Tensor, batch: Batch) -> Part:
    """Return the loss of the task's own kind on a batch as a sum and a count."""
    return batch.kind.loss(logits, batch.labels), batch.mean_labels


LOSSES: dict[str, Loss] = {
    function.__name__: function
    for function in (
        hidden_mse, hidden_cosine, soft_cross_entropy, kl_forward, kl_reverse, kl_symmetric, jsd, logit_mse, label
    )
}  # fmt: skip
"""Every loss by the name it has in an experiment file."""

_OF_CLASSES = {"soft_cross_entropy", "kl_forward", "kl_reverse", "kl_symmetric", "jsd"}


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of losses.

    Attributes:
        weights: by name of ``LOSSES``; a regression task has ``logit_mse`` where a loss over classes is named.
        temperature: τ of the softened classes.
    """

    weights: tuple[tuple[str, float], ...]
    temperature: float = 1.0

    @staticmethod
    def of(weights: Mapping[str, float], temperature: float, over_classes: bool) -> "WeightedLoss":
        """Check the names and fit them to the task.

        Raises:
            InputError: an unknown loss, or none with a weight above zero.
        """
        fitted: dict[str, float] = {}
        for name, weight in weights.items():
            if name not in LOSSES:
                raise InputError(f"distillation.losses: unknown loss '{name}'; known: {', '.join(sorted(LOSSES))}")
            fits = name if over_classes or name not in _OF_CLASSES else "logit_mse"
            if weight > 0:
                fitted[fits] = fitted.get(fits, 0.0) + weight
        if not fitted:
            raise InputError("distillation.losses: no loss has a weight above zero")
        return WeightedLoss(tuple(sorted(fitted.items())), temperature)

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        """The weighted sum of each loss's mean over the batch, a scalar; of a worker, its part of that."""
        of_classes = student
        if teacher.tokens is not None and any(name in _OF_CLASSES for name, _ in self.weights):
            of_classes = replace(student, logits=grouped(student.logits, teacher.tokens))
        parts = [
            weight
            * _mean(LOSSES[name](of_classes if name in _OF_CLASSES else student, teacher, batch, self.temperature))
            for name, weight in self.weights
        ]
        return torch.stack(parts).sum()


def _mean(part: Part) -> torch.Tensor:
    return part[0] / part[1]


def _pairs(student: Outputs, teacher: Outputs) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(student.hidden, teacher.hidden, strict=True)


def _kl(target: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    return functional.kl_div(
        functional.log_softmax(other / temperature, dim=-1),
        functional.log_softmax(target / temperature, dim=-1),
        reduction="sum",
        log_target=True,
    )
