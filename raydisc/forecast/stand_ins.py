"""Stand-ins for what a training stage reads: batches and teacher's outputs of the right sizes, made of zeros."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydisc.families.base import Config
from raydisc.forecast.memory import Allocations, empty_batch
from raydisc.models.build import build
from raydisc.models.precision import Precision
from raydisc.signals.cache import OutputsShape, empty_outputs
from raydisc.signals.source import CachedSignal, OnlineSignal, TeacherSignal
from raydisc.stages.artifact import Artifact
from raydisc.stages.facts import TaskFacts
from raydisc.stages.files import read_table, task_kind_of
from raydisc.stages.store import ArtifactStore
from raydisc.stages.teacher_outputs import outputs_shape
from raydisc.stages.training import Assigned, SharedShape, Towards, Training
from raydisc.stages.work import Shape
from raydisc.tasks.tokenised import Batch


def batch_of(store: ArtifactStore, data: Artifact, shape: Shape) -> Batch:
    """Return a batch of a task's rows, of a shape."""
    types = "token_type_ids" in read_table(store, data, "train.arrow").column_names
    return empty_batch(*shape, types, task_kind_of(data))


def batches_of(store: ArtifactStore, data: Artifact, shapes: Sequence[SharedShape]) -> list[Assigned]:
    """Return the batch of each candidate in a step; those that share one share its stand-in."""
    made = [(learners, batch_of(store, data, shape)) for learners, shape in shapes]
    return [(candidate, batch) for learners, batch in made for candidate in learners]


def signal_for(training: Training, precision: Precision, counted: Allocations) -> TeacherSignal | None:
    """Return what a training reads its teacher's outputs from; None where it learns labels.

    Args:
        training: The training.
        precision: The precision to compute in.
        counted: Counts a teacher that is run; kept outputs lie outside of the memory that is counted.
    """
    towards = training.towards
    if towards is None:
        return None
    config = training.known.config
    teacher = towards.structure_run(training.known.store)
    if teacher is None:
        return kept_signal(towards, config)
    model = build(config, teacher).requires_grad_(False).eval()
    counted.watch(model)
    wanted = (towards.grouping, towards.inner)
    return OnlineSignal(model, towards.teacher_positions, lambda batch: None, precision, *wanted)


def kept_signal(towards: Towards, config: Config) -> TeacherSignal:
    """Return a signal whose outputs are kept, of one row of the greatest length."""
    length, shape = TaskFacts.of(towards.data).max_length, sizes_of_outputs(towards, config)
    labels = task_kind_of(towards.data).most_labels(length)
    kept = empty_outputs(replace(shape, rows=1, tokens=length, num_labels=labels))
    return CachedSignal(kept, np.array([length]), np.array([labels]))


def target_bytes(training: Training, shapes: Sequence[SharedShape]) -> int:
    """Return the bytes of the teacher's outputs on the batches of a step, as the loss reads them."""
    towards = training.towards
    if towards is None:
        return 0
    kept = sizes_of_outputs(towards, training.known.config)
    values = kept.positions * kept.hidden_size + sum(numbers for _, numbers in kept.inner)
    of_label = 4 * kept.num_logits + 8 * kept.num_tokens  # float32 and int64
    kind = task_kind_of(towards.data)
    return sum(rows * (4 * length * values + kind.most_labels(length) * of_label) for _, (rows, length) in shapes)


def sizes_of_outputs(towards: Towards, config: Config) -> OutputsShape:
    """Return the size of the teacher's outputs that a model is trained towards."""
    inner = tuple(signal.field for signal in towards.inner)
    return outputs_shape(towards.data, towards.teacher_positions, config, towards.objective.top_tokens, inner)
