"""A loss on logits."""

from raydisc.losses.base import Loss
from raydisc.signals.logits import Logits


class LogitMAE(Loss):
    """The mean absolute difference of the logits."""

    name = "logit_mae"
    needs = frozenset({Logits})

    def __call__(self, student, teacher, batch, temperature):
        """Return the sum of the differences, and the number of logits of the whole batch."""
        return (student.logits - teacher.logits).abs().sum(), batch.mean_labels * student.logits.shape[-1]
