"""Losses between the logits ``s`` of the student and ``t`` of the teacher, both ``[N, C]``.

Those over classes compare the distributions ``p = softmax(t / τ)`` and ``q = softmax(s / τ)`` at the temperature τ.
They are averaged over the N labels and multiplied by ``τ²``, which keeps gradients of one size at every temperature
(Hinton et al. 2015, section 2.1).
"""

import torch
from torch.nn import functional

from raydisc.losses.base import Loss, Part
from raydisc.models.forward import Outputs
from raydisc.signals.logits import Logits
from raydisc.tasks.tokenised import Batch


class ClassLoss(Loss):
    """A loss between distributions over classes, which a regression task replaces by ``logit_mse``."""

    needs = frozenset({Logits})
    over_classes = True
    in_regression = "logit_mse"


class SoftCrossEntropy(ClassLoss):
    """The cross entropy ``-sum p log q`` of the student under the teacher (Hinton et al. 2015)."""

    name = "soft_cross_entropy"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``."""
        target = functional.softmax(teacher.logits / temperature, dim=-1)
        total = -(target * functional.log_softmax(student.logits / temperature, dim=-1)).sum()
        return total * temperature**2, batch.mean_labels


class ForwardKL(ClassLoss):
    """The divergence ``KL(p ‖ q)`` from the teacher to the student."""

    name = "kl_forward"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``."""
        return _kl(teacher.logits, student.logits, temperature) * temperature**2, batch.mean_labels


class ReverseKL(ClassLoss):
    """The divergence ``KL(q ‖ p)`` from the student to the teacher."""

    name = "kl_reverse"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``."""
        return _kl(student.logits, teacher.logits, temperature) * temperature**2, batch.mean_labels


class SymmetricKL(ClassLoss):
    """The mean of both divergences, ``(KL(p ‖ q) + KL(q ‖ p)) / 2``."""

    name = "kl_symmetric"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``."""
        forward, count = ForwardKL()(student, teacher, batch, temperature)
        reverse, _ = ReverseKL()(student, teacher, batch, temperature)
        return (forward + reverse) / 2, count


class JensenShannon(ClassLoss):
    """The Jensen-Shannon divergence ``(KL(p ‖ m) + KL(q ‖ m)) / 2`` with ``m = (p + q) / 2``."""

    name = "jsd"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``."""
        mixture = torch.logaddexp(
            functional.log_softmax(student.logits / temperature, dim=-1),
            functional.log_softmax(teacher.logits / temperature, dim=-1),
        ) - torch.log(torch.tensor(2.0))
        # The mixture is normalised already, so that a softmax leaves it unchanged.
        halves = _kl(student.logits / temperature, mixture, 1.0) + _kl(teacher.logits / temperature, mixture, 1.0)
        return halves / 2 * temperature**2, batch.mean_labels


class LogitMSE(Loss):
    """The mean squared difference ``sum (s - t)² / (N C)`` of the logits themselves."""

    name = "logit_mse"
    needs = frozenset({Logits})

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``; the temperature plays no part."""
        return (student.logits - teacher.logits).square().sum(), batch.mean_labels * student.logits.shape[-1]


def _kl(target: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the sum over labels of the divergence of two tensors of logits ``[N, C]``, KL(target ‖ other)."""
    return functional.kl_div(
        functional.log_softmax(other / temperature, dim=-1),
        functional.log_softmax(target / temperature, dim=-1),
        reduction="sum",
        log_target=True,
    )
