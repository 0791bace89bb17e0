"""The base class of all losses.

Shape letters: B rows, S tokens, D hidden size, C classes, K matched positions, N labels of a batch. A classifier of
texts has one label for each row (N = B); a classifier of words has one for each word; a language model, whose classes
are the tokens of its vocabulary, has one for each token that it predicts.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from raydisc.models.forward import Outputs
from raydisc.signals.base import Signal
from raydisc.signals.inner import StudentSignal
from raydisc.tasks.tokenised import Batch

Part = tuple[torch.Tensor, float]
"""A sum over one worker's share of a batch, and the count of the whole batch that the sum is divided by."""


class Loss(ABC):
    """A measure of how far a student is from its teacher, or from the labels, on a batch.

    A loss is a class without state. It states which signals of the teacher it compares; raydisc computes, caches and
    reads exactly those. What it reads from inside the student alone it states apart. Values are float32 scalars on the
    device of the student.

    To add a loss, derive from this class and register it, in Python or by an entry point of the group
    ``raydisc.losses``. Check it with ``raydisc.testing.losses.LossContract``.

    Attributes:
        name: The name in experiment files (``distillation.losses``). It is a part of stage keys: results that were
            computed under a name are reused, so give a changed formula a new name.
        needs: The signals that the loss reads in ``student`` and ``teacher``, such as ``Logits`` or ``HiddenStates``.
        needs_of_student: The signals that the loss reads in ``student`` alone, such as the routing to experts; nothing
            of them is computed of the teacher. The loss is left out for a model without their modules, such as a
            candidate of a supernet that has no experts.
        over_classes: Whether the loss compares logits as distributions over classes (by a softmax). In a language task
            the loss then sees the teacher's likeliest tokens and one class for all others, in place of the vocabulary.
        in_regression: The name of the loss that takes the place of this one in a regression task, which has no
            classes; None if this one applies there.

    Example:
        >>> from raydisc.losses import LOSSES
        >>> from raydisc.signals.logits import Logits
        >>> class LogitMAE(Loss):
        ...     '''The mean absolute difference of the logits.'''
        ...     name = "logit_mae"
        ...     needs = frozenset({Logits})
        ...     def __call__(self, student, teacher, batch, temperature):
        ...         return (student.logits - teacher.logits).abs().sum(), batch.mean_labels * student.logits.shape[-1]
        >>> with LOSSES.registering(LogitMAE):
        ...     LOSSES.get("logit_mae").__name__
        'LogitMAE'
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[type[Signal]]] = frozenset()
    needs_of_student: ClassVar[frozenset[type[StudentSignal]]] = frozenset()
    over_classes: ClassVar[bool] = False
    in_regression: ClassVar[str | None] = None

    @abstractmethod
    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """Return the sum over this worker's share of a batch, and the count of the whole batch.

        Sum and count are kept apart so that the sums of several workers add up to that of one. Padding must not
        contribute. ``batch.mean_labels`` and ``batch.mean_tokens`` are counts of the whole batch.

        Args:
            student: Outputs with gradients: logits ``[N, C]`` and K hidden states ``[B, S, D]``.
            teacher: Outputs without gradients, shaped alike; padding positions hold arbitrary finite numbers.
            batch: The rows, with labels ``[N]`` and ``attention_mask`` ``[B, S]``.
            temperature: The temperature τ, by which the logits of both are divided before a softmax.
        """
