"""The loss of a task's labels."""

import torch

from raydisc.losses.base import Loss, Part
from raydisc.models.forward import Outputs
from raydisc.tasks.tokenised import Batch


class Label(Loss):
    """The task's own loss, without a teacher; see ``task_loss``."""

    name = "label"

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> Part:
        """See ``Loss``; neither the teacher nor the temperature plays a part."""
        return task_loss(student.logits, batch)


def task_loss(logits: torch.Tensor, batch: Batch) -> Part:
    """Return the loss of a task's labels, which the kind of task defines, as sum and count.

    Args:
        logits: The logits of each label ``[N, C]``.
        batch: The rows with their labels ``[N]``.
    """
    return batch.kind.loss(logits, batch.labels), batch.mean_labels
