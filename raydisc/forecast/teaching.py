"""The steps of a training stage on tensors without contents, by the functions that the stages train with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from raydisc.config.sections import TrainingConfig
from raydisc.forecast.memory import Allocations, empty_batch
from raydisc.forecast.stages import World
from raydisc.forecast.work import Shape
from raydisc.losses.labels import task_loss
from raydisc.models.build import build
from raydisc.models.forward import forward
from raydisc.models.precision import Precision
from raydisc.models.widths import Widths
from raydisc.signals.cache import OutputsShape, empty_outputs
from raydisc.signals.source import CachedSignal, OnlineSignal, TeacherSignal
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Distil
from raydisc.stages.files import Weights, read_split, read_table, read_widths, task_kind_of
from raydisc.stages.finetune import FineTune
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.compute import Lesson, sandwich_backward
from raydisc.stages.once_for_all.model import Supernet, read_candidates
from raydisc.stages.once_for_all.plan import course_of
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.targets import are_kept, positions, tokens_named, weighted_loss
from raydisc.stages.teacher_outputs import outputs_shape
from raydisc.supernet.candidates import Candidate
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource

Training = FineTune | OnceForAll | Distil
"""Requests whose stages train a model."""

Taught = tuple[Candidate, Shape]
"""A candidate, and the shape of the batch that it learns from."""


def batch_of(world: World, data: Artifact, shape: Shape) -> Batch:
    """A batch of a task's rows, of a shape."""
    types = "token_type_ids" in read_table(world.store, data, "train.arrow").column_names
    return empty_batch(*shape, types, task_kind_of(data))


def _config(request: Training) -> TrainingConfig:
    config = request.finetune if isinstance(request, FineTune) else request.config
    assert config is not None
    return config


def source_of(world: World, request: Training) -> BatchSource:
    """A stage's batches, but for a curriculum."""
    train = read_split(world.store, request.data, "train")
    batch_size = _config(request).batch_size
    return BatchSource(train, batch_size, request.seed, request.data["pad_id"], torch.device("cpu"))


@dataclass(frozen=True)
class Teaching:
    """What the steps of a stage need beside the model.

    Attributes:
        world: what the forecast knows.
        request: of the stage.
        precision: to compute in.
        signal: the teacher's outputs; None where labels are learned.
    """

    world: World
    request: Training
    precision: Precision
    signal: TeacherSignal | None

    @staticmethod
    def of(world: World, request: Training, precision: Precision, counted: Allocations | None) -> "Teaching":
        """What a request's steps need; its tensors are zeros.

        Args:
            world: what the forecast knows.
            request: of the stage.
            precision: to compute in.
            counted: is told of a teacher that is run; kept outputs lie outside of the memory that is counted. None:
                outputs are taken to be kept, whatever the request says.
        """
        if isinstance(request, FineTune):
            return Teaching(world, request, precision, None)
        matched = positions(objective_of(request), len(world.cost.layers))[1]
        if counted is None or are_kept(request.outputs):
            length, shape = int(request.data["max_length"]), _outputs(world, request)
            labels = task_kind_of(request.data).most_labels(length)
            kept = empty_outputs(replace(shape, rows=1, tokens=length, num_labels=labels))
            return Teaching(world, request, precision, CachedSignal(kept, np.array([length]), np.array([labels])))
        model = Model(request.importance) if isinstance(request, OnceForAll) else request.teacher
        teacher = build(world.config, read_widths(world.store, model)).requires_grad_(False).eval()
        counted.watch(teacher)
        named = tokens_named(request.data, objective_of(request).top_tokens)
        signal = OnlineSignal(teacher, matched, lambda batch: None, precision, named)
        return Teaching(world, request, precision, signal)

    @property
    def config(self) -> TrainingConfig:
        """How the stage trains."""
        return _config(self.request)

    @property
    def dropout(self) -> float | None:
        """The stage's dropout; None is the configuration's."""
        return None if isinstance(self.request, FineTune) else self.request.config.dropout

    @property
    def patient(self) -> bool:
        """Whether the stage stops early, for which it keeps the best weights."""
        return not isinstance(self.request, FineTune) and self.request.config.patience is not None

    def batch(self, shape: Shape) -> Batch:
        """A batch of a shape."""
        return batch_of(self.world, self.request.data, shape)

    def target_bytes(self, shapes: Sequence[Shape]) -> int:
        """Bytes of the teacher's outputs on batches, as the loss reads them."""
        if isinstance(self.request, FineTune):
            return 0
        kept = _outputs(self.world, self.request)
        values = kept.positions * kept.hidden_size
        of_label = 4 * kept.num_logits + 8 * kept.num_tokens  # float32 and int64
        kind = task_kind_of(self.request.data)
        return sum(rows * (4 * length * values + kind.most_labels(length) * of_label) for rows, length in shapes)

    def learn(self, model: nn.Module, batch: Batch) -> None:
        """Forward and backward of a dense model on one batch."""
        if self.signal is None or isinstance(self.request, FineTune):
            total, count = task_loss(forward(model, batch, (), self.precision).logits, batch)
            (total / count).backward()
            return
        objective = objective_of(self.request)
        wanted = self.signal.outputs(batch)
        outputs = forward(model, batch, positions(objective, len(self.world.cost.layers))[0], self.precision)
        weighted_loss(objective, self.request.data)(outputs, wanted, batch).backward()

    def learn_together(self, model: nn.Module, taught: Sequence[tuple[Candidate, Batch]]) -> None:
        """A step of the supernet, each candidate on its batch."""
        assert self.signal is not None
        assert isinstance(self.request, OnceForAll)
        config, objective = self.world.config, self.request.objective
        candidates = tuple(candidate for candidate, _ in taught)
        supernet = Supernet(
            model, Weights(config, Widths.full(config), {}, 1.0), candidates, self.world.cost, self.precision
        )
        lessons = [Lesson(candidate, batch, self.signal.outputs(batch)) for candidate, batch in taught]
        matched = positions(objective, len(self.world.cost.layers))[0]
        sandwich_backward(supernet, lessons, weighted_loss(objective, self.request.data), matched)


def objective_of(request: OnceForAll | Distil) -> Objective:
    """What a request minimises."""
    return request.objective if isinstance(request, OnceForAll) else Objective.of(request.config)


def _outputs(world: World, request: OnceForAll | Distil) -> OutputsShape:
    """The size of the teacher's outputs that a request learns from."""
    objective = objective_of(request)
    matched = positions(objective, len(world.cost.layers))[1]
    return outputs_shape(request.data, matched, world.subject.hidden_size, objective.top_tokens)


def heaviest_steps(request: OnceForAll, world: World) -> list[list[Taught]]:
    """What the step with the largest lesson teaches, before the assistant is chosen and after it."""
    candidates, cost, source = read_candidates(request, world.store), world.cost, source_of(world, request)
    course = course_of(request, world.store, candidates, cost)
    chosen = next((it for it in candidates if it.scale in world.assistants), None) if course.chooses_at else None
    first: dict[bool, tuple[int, list[Taught]]] = {}
    for step in range(course.steps):
        after = chosen is not None and course.chooses_at is not None and step >= course.chooses_at
        lengths = source.lengths(step)
        shares = course.shares(step, chosen if after else None, len(lengths))
        parts = [(share.candidate, lengths[share.rows]) for share in shares]
        taught = [(candidate, (len(own), int(own.max()))) for candidate, own in parts if len(own)]
        weight = max(cost.flops(candidate.widths, *shape) for candidate, shape in taught)
        first[after] = max(first.get(after, (0, [])), (weight, taught), key=lambda found: found[0])
    return [taught for _, taught in first.values()]
