"""One step of a supernet: lessons of candidates, each a forward and a backward."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from raydisc.losses.objective import WeightedLoss
from raydisc.models.forward import Outputs, forward
from raydisc.parallel.shard import backwards
from raydisc.signals.inner import StudentSignal
from raydisc.signals.source import TeacherSignal
from raydisc.stages.once_for_all.model import Supernet
from raydisc.stages.training import Assigned
from raydisc.supernet.candidates import Candidate
from raydisc.tasks.tokenised import Batch
from raydisc.training.micro_batches import micro_batches_of


@dataclass(frozen=True)
class Lesson:
    """A batch that a candidate learns from at once, and the teacher's outputs on it."""

    candidate: Candidate
    batch: Batch
    wanted: Outputs


def lessons_of(assigned: Sequence[Assigned], signal: TeacherSignal, micro_batches: int) -> list[Lesson]:
    """Return the lessons of a step; the teacher's outputs on a batch are read once, whoever learns from it.

    Args:
        assigned: The candidates and their batches.
        signal: The teacher's outputs.
        micro_batches: The number of lessons that each batch is cut into.
    """
    batches = {id(batch): batch for _, batch in assigned}
    parts = {
        name: [(part, signal.outputs(part)) for part in micro_batches_of(batch, micro_batches)]
        for name, batch in batches.items()
    }
    return [
        Lesson(candidate, part, wanted)
        for candidate, batch in assigned
        if candidate is not None
        for part, wanted in parts[id(batch)]
    ]


def sandwich_backward(
    supernet: Supernet,
    lessons: Sequence[Lesson],
    loss: WeightedLoss,
    student_positions: tuple[int, ...],
    inner: Sequence[type[StudentSignal]] = (),
    weight: float = 1.0,
) -> torch.Tensor:
    """Accumulate the gradients of the candidates' losses, each backward before the next forward.

    Args:
        supernet: The elastic model.
        lessons: The lessons of the step.
        loss: The loss of each lesson.
        student_positions: The positions of the candidates whose hidden states are compared.
        inner: The signals from inside the candidates that the loss reads.
        weight: The weight of each lesson's loss in that of the step.

    Returns:
        The weighted sum of their losses, or the worker's part of it, a detached scalar on the device.
    """
    losses = []
    for lesson in backwards(supernet.model, lessons, supernet.rank.layout.once):
        supernet.select(lesson.candidate)
        outputs = forward(supernet.model, lesson.batch, student_positions, supernet.precision, inner)
        value = weight * loss(outputs, lesson.wanted, lesson.batch)
        value.backward()
        losses.append(value.detach())
    return torch.stack(losses).sum()
