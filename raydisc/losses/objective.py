"""The objective of a distillation: a weighted sum of losses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from raydisc.errors import InputError
from raydisc.losses import LOSSES
from raydisc.losses.base import Loss
from raydisc.models.forward import Outputs
from raydisc.signals.base import Signal
from raydisc.signals.inner import StudentSignal
from raydisc.signals.logits import Logits
from raydisc.signals.top_tokens import grouped
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.tokenised import Batch

WHERE = "distillation.losses"
"""The setting that names losses, for messages."""


def signals_needed(weights: Mapping[str, float]) -> frozenset[type[Signal]]:
    """Return the signals of a teacher that the losses with a weight above zero compare.

    Args:
        weights: The weights by name of ``LOSSES``.

    Raises:
        InputError: A loss is unknown.
    """
    return frozenset().union(*(LOSSES.get(name, WHERE).needs for name, weight in weights.items() if weight > 0))


def signals_of_student(weights: Mapping[str, float]) -> frozenset[type[StudentSignal]]:
    """Return the signals that the losses with a weight above zero read in the student alone; see ``signals_needed``."""
    return frozenset().union(*(LOSSES.get(name, WHERE).needs_of_student for name, weight in weights.items() if weight))


def applies_to(loss: type[Loss] | Loss, kind: TaskKind) -> bool:
    """Whether a loss can be computed in a kind of task as it stands.

    A regression task has no classes. In a language task the teacher gives the logits of its likeliest tokens only, in
    which a loss over classes finds one class for all other tokens.
    """
    if not kind.over_classes:
        return loss.in_regression is None
    return not kind.over_vocabulary or loss.over_classes or Logits not in loss.needs


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of losses, fitted to a kind of task.

    Attributes:
        weights: The names of ``LOSSES`` with their weights, in alphabetical order.
        temperature: The temperature τ, by which logits are divided before a softmax.
    """

    weights: tuple[tuple[str, float], ...]
    temperature: float = 1.0

    @staticmethod
    def of(weights: Mapping[str, float], temperature: float, kind: TaskKind) -> "WeightedLoss":
        """Return the losses with a weight above zero; in regression, others take the place of those over classes.

        Args:
            weights: The weights by name of ``LOSSES``.
            temperature: See ``WeightedLoss``.
            kind: The kind of the task.

        Raises:
            InputError: A loss is unknown or does not apply to the task, or no weight is above zero.
        """
        fitted: dict[str, float] = {}
        for name, weight in weights.items():
            loss = LOSSES.get(name, WHERE)
            if weight == 0:
                continue
            if kind.over_vocabulary and not applies_to(loss, kind):
                raise InputError(
                    f"{WHERE}: '{name}' compares all logits, but in a language task the teacher gives those of its "
                    "likeliest tokens only; use a loss over classes such as kl_forward"
                )
            fits = name if kind.over_classes else loss.in_regression or name
            fitted[fits] = fitted.get(fits, 0.0) + weight
        if not fitted:
            raise InputError(f"{WHERE}: no loss has a weight above zero")
        return WeightedLoss(tuple(sorted(fitted.items())), temperature)

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        """Return the weighted sum of each loss's mean over the batch, a scalar; of one worker, its part of that sum.

        Raises:
            InputError: The student has nothing of what the losses read.
        """
        named = [(LOSSES.get(name, WHERE)(), weight) for name, weight in self.weights]
        losses = [it for it in named if all(signal.field in student.inner for signal in it[0].needs_of_student)]
        if not losses:
            names = " and ".join(name for name, _ in self.weights)
            raise InputError(f"{WHERE}: {names} reads what this model does not have; add a loss that reads the teacher")
        of_classes = student
        if teacher.tokens is not None and any(loss.over_classes for loss, _ in losses):
            of_classes = replace(student, logits=grouped(student.logits, teacher.tokens, self.temperature))
        parts = [
            weight * self._mean(loss, of_classes if loss.over_classes else student, teacher, batch)
            for loss, weight in losses
        ]
        return torch.stack(parts).sum()

    def _mean(self, loss: Loss, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        total, count = loss(student, teacher, batch, self.temperature)
        return total / count
