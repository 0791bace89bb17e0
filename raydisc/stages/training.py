"""The training of a stage: its batches, its steps, and what a model learns in them.

A stage runs it, ``raydisc plan`` counts its steps, the forecast of memory measures the heaviest of them, and the probe
times some.
"""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from raydisc.config.sections import TrainingConfig
from raydisc.families.base import Config
from raydisc.losses.objective import signals_of_student
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.precision import Precision
from raydisc.models.structure import Structure
from raydisc.parallel.rank import ALONE, Rank
from raydisc.signals.inner import InnerSignal, StudentSignal, inner_signals
from raydisc.signals.source import TeacherSignal
from raydisc.signals.top_tokens import Grouping
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.context import Context
from raydisc.stages.facts import TaskFacts
from raydisc.stages.files import read_split, read_structure
from raydisc.stages.objective import Objective
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import Targets, grouping_of, inner_of, positions, targets_of
from raydisc.stages.work import Passes, Shape
from raydisc.supernet.candidates import Candidate
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.batches import BatchSource
from raydisc.training.checkpoint import TrainingState
from raydisc.training.loop import Evaluate, train
from raydisc.training.micro_batches import Learn, in_micro_batches

Assigned = tuple[Candidate | None, Batch]
"""A candidate and the batch that it trains on; None stands for the whole model."""

SharedShape = tuple[tuple[Candidate | None, ...], Shape]
"""The candidates that train on one batch, whose teacher's outputs they share, and the shape of the batch."""

Learner = Callable[[Sequence[Assigned]], torch.Tensor]
"""Runs the forwards and backwards of a step; leaves gradients, and returns this worker's part of the loss, detached."""


@dataclass(frozen=True)
class Known:
    """The facts that decide the training of a stage, beside its request.

    Attributes:
        config: The teacher's configuration.
        cost: The cost of its forward at any structure.
        store: The artifacts; of models only configurations and structures are read.
        device: The device that batches are put on.
        rank: The rank of this worker.
        splits: The splits that were read, by the key of their data, their name and their number of rows; trainings of
            the same rows share them.
        sources: The batches of whole training splits, by the key of the data, the batch size and the seed.
        shapes: The shapes of the batches that were looked at, by their source.
    """

    config: Config
    cost: ForwardCost
    store: ArtifactStore
    device: torch.device = torch.device("cpu")
    rank: Rank = ALONE
    splits: dict[tuple[str, str, int | None], Split] = field(default_factory=dict)
    sources: dict[tuple[str, int, int], BatchSource] = field(default_factory=dict)
    shapes: dict[BatchSource, list[Shape]] = field(default_factory=lambda: defaultdict(list))

    def split(self, data: Artifact, name: str, rows: int | None = None) -> Split:
        """Return a tokenised split, or a fixed choice of ``rows`` of its rows; see ``read_split``."""
        place = (data.key, name, rows)
        if place not in self.splits:
            self.splits[place] = read_split(self.store, data, name, rows)
        return self.splits[place]

    def source(self, data: Artifact, config: TrainingConfig, seed: int) -> BatchSource:
        """Return the batches of a stage that trains on all training rows of a task in each epoch.

        Args:
            data: The tokenised task.
            config: The section of the experiment that says how the stage trains.
            seed: The seed of the order.
        """
        place = (data.key, config.batch_size, seed)
        if place not in self.sources:
            split, pad_id = self.split(data, "train"), TaskFacts.of(data).pad_id
            self.sources[place] = BatchSource(split, config.batch_size, seed, pad_id, self.device, rank=self.rank)
        return self.sources[place]

    def first_shapes(self, source: BatchSource, steps: int) -> Counter[Shape]:
        """Count the shapes of a source's first batches."""
        if steps:
            self.shape(source, steps - 1)
        return Counter(self.shapes[source][:steps])

    def shape(self, source: BatchSource, step: int) -> Shape:
        """Return the shape of a source's batch; each batch is looked at once."""
        known = self.shapes[source]
        known.extend(source.shape(place) for place in range(len(known), step + 1))
        return known[step]


@dataclass(frozen=True)
class Towards:
    """The target of a training: a teacher's outputs, by an objective.

    Attributes:
        data: The tokenised task.
        objective: The distance that is minimised.
        teacher: The teacher.
        outputs: The teacher's outputs on the training rows; None where the teacher is to be run in every step.
        num_layers: The layers of the teacher and of the student.
    """

    data: Artifact
    objective: Objective
    teacher: Model
    outputs: Artifact | None
    num_layers: int

    @property
    def student_positions(self) -> tuple[int, ...]:
        """The positions of the student whose hidden states are compared."""
        return positions(self.objective, self.num_layers)[0]

    @property
    def teacher_positions(self) -> tuple[int, ...]:
        """The positions of the teacher whose hidden states are compared."""
        return positions(self.objective, self.num_layers)[1]

    @property
    def inner(self) -> tuple[type[InnerSignal], ...]:
        """The signals from inside a model that are compared."""
        return inner_signals(inner_of(self.objective))

    @property
    def inner_of_student(self) -> tuple[type[StudentSignal], ...]:
        """The signals from inside the model that is trained: those compared, and those of the student alone."""
        alone = signals_of_student(dict(self.objective.losses)) - {*self.inner}
        return (*self.inner, *sorted(alone, key=lambda signal: signal.field))

    @property
    def grouping(self) -> Grouping:
        """The way in which predictions are compared in a language task."""
        return grouping_of(self.data, self.objective.top_tokens, self.objective.temperature)

    def structure_run(self, store: ArtifactStore) -> Structure | None:
        """Return the structure of a teacher that is run in every step; None where its outputs are kept."""
        return read_structure(store, self.teacher) if self.outputs is None else None

    def targets(self, context: Context, source: BatchSource) -> Targets:
        """Return the teacher's outputs as a stage reads them."""
        wanted = (self.teacher_positions, self.grouping, self.inner)
        return targets_of(context, self.outputs, self.teacher, source.split, *wanted)


@dataclass(frozen=True)
class Pupil:
    """The model of a training, and how it learns.

    Attributes:
        model: The model.
        signal: The teacher's outputs; None where labels are learned.
        precision: The precision to compute in.
        micro_batches: The number of parts that each batch is cut into.
        rank: The rank of this worker.
    """

    model: nn.Module
    signal: TeacherSignal | None
    precision: Precision
    micro_batches: int = 1
    rank: Rank = ALONE

    def learning(self, learn: Learn) -> Learner:
        """Return what learns the one batch of a step, whole or in parts, by a function that learns a batch."""
        learned = in_micro_batches(learn, self.micro_batches)
        return lambda assigned: learned(assigned[0][1])


@dataclass(frozen=True)
class Part:
    """The rows that a candidate learns from in a step; candidates that learn from the same rows share the array."""

    candidate: Candidate | None
    rows: np.ndarray


@dataclass(frozen=True)
class Training(ABC):
    """The training of a stage.

    Attributes:
        stage: The stage's name in messages.
        known: The facts that decide it, beside the request.
        config: The section of the experiment that says how the stage trains.
        source: The batches.
        steps: The number of optimiser steps, by which the learning rate falls.
        structure: The structure of the model that is trained.
        towards: The target of the training; None where the model is trained on the labels.
        evaluate_at: The steps after which the stage is evaluated before it ends.
        evaluation_rows: The validation rows of evaluations before the training ends; None for all of them.
        patience: The number of evaluations without a better metric after which it stops; None never stops.
        keep_best: Whether the weights of the best evaluation are kept without patience too.
        dropout: The probability of every dropout; None is the configuration's.
        begins_at: The number of steps that an earlier stage has done.
        ends_at: The step after which a later stage goes on; None where there is none.
        elastic: Whether the model holds all candidates, one of which is active at a time.
    """

    elastic: ClassVar[bool] = False

    stage: str
    known: Known
    config: TrainingConfig
    source: BatchSource
    steps: int
    structure: Structure
    towards: Towards | None = None
    evaluate_at: frozenset[int] = frozenset()
    evaluation_rows: int | None = None
    patience: int | None = None
    keep_best: bool = False
    dropout: float | None = None
    begins_at: int = 0
    ends_at: int | None = None

    @property
    def own_steps(self) -> range:
        """The steps that the stage does itself, counted from 0."""
        return range(self.begins_at, self.steps if self.ends_at is None else self.ends_at)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation are kept, so that there is a second copy of them."""
        return self.keep_best or self.patience is not None

    @abstractmethod
    def learner(self, pupil: Pupil) -> Learner:
        """Return what runs the forwards and backwards of a step."""

    def parts(self, step: int) -> list[Part]:
        """Return the rows that each candidate learns from in a step."""
        return [Part(None, self.source.rows(step))]

    def batches(self, step: int) -> list[Assigned]:
        """Return the batch that each candidate learns from in a step; candidates with the same rows share one."""
        parts = self.parts(step)
        made = {id(rows): self.source.batch_of(rows) for rows in {id(it.rows): it.rows for it in parts}.values()}
        return [(part.candidate, made[id(part.rows)]) for part in parts]

    def shapes(self, step: int) -> list[SharedShape]:
        """Return the shape of each batch of a step, with the candidates that learn from it."""
        parts = self.parts(step)
        return [
            (tuple(part.candidate for part in parts if part.rows is rows), self.source.shape_of(rows))
            for rows in {id(it.rows): it.rows for it in parts}.values()
        ]

    def structure_of(self, candidate: Candidate | None) -> Structure:
        """Return the structure of the candidate, or of the whole model, that trains on a batch."""
        return self.structure if candidate is None else candidate.structure

    def passes(self) -> list[Passes]:
        """Count the lessons of all steps, and the passes of a teacher that is run for them."""
        learned: dict[Structure, Counter[Shape]] = defaultdict(Counter)
        read: Counter[Shape] = Counter()
        for step in self.own_steps:
            parts = self.parts(step)
            for part in parts:
                learned[self.structure_of(part.candidate)][self.source.shape_of(part.rows)] += 1
            # the teacher is run once for candidates with the same rows
            read.update(self.source.shape_of(rows) for rows in {id(it.rows): it.rows for it in parts}.values())
        teacher = self.towards.structure_run(self.known.store) if self.towards else None
        passes = [Passes("train", structure, shapes) for structure, shapes in learned.items()]
        return passes + ([Passes("run", teacher, read)] if teacher else [])

    def heaviest(self) -> list[list[SharedShape]]:
        """Return the steps that need the most memory, each with the shapes of its batches."""
        largest = next(passes.largest for passes in self.passes() if passes.way == "train")
        return [[((None,), largest)]]

    def samples(self) -> Sequence[Sequence[Candidate | None]]:
        """Return the candidates that learn in each kind of step that a probe times."""
        return [[None]]

    def run(
        self,
        model: nn.Module,
        context: Context,
        evaluate: Evaluate,
        targets: Targets | None,
        begun: TrainingState | None = None,
    ) -> TrainingState:
        """Train a model in place, from the last checkpoint if there is one.

        Args:
            model: The model.
            context: The context of the stage.
            evaluate: Evaluates the model after some steps.
            targets: The teacher's outputs; None where labels are learned.
            begun: The state that an earlier stage has left; None where there is none.
        """
        execution = context.execution
        signal = None if targets is None else targets.signal
        learn = self.learner(Pupil(model, signal, execution.precision, execution.micro_batches, context.rank))

        def step(index: int) -> tuple[torch.Tensor, float]:
            before = 0.0 if targets is None else targets.flops
            assigned = self.batches(index)
            loss = learn(assigned)
            forwards = sum(self.known.cost.flops(self.structure_of(it), *batch.shape) for it, batch in assigned)
            read = 0.0 if targets is None else (targets.flops - before) / execution.micro_batches
            return loss, STEP_FORWARDS * forwards + read

        settings = context.loop(
            self.stage, self.config, self.source, self.steps, self.evaluate_at, self.patience, self.keep_best
        )
        settings = replace(settings, ends_at=self.ends_at, begun=begun)
        return train(model, settings, step, evaluate, context.progress, context.rank)
