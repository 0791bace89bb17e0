"""The distillation stage: a model of one scale trained towards a teacher."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
import torch

from raydisc.config.sections import DistillationConfig
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.form import Form
from raydisc.models.forward import forward
from raydisc.models.structure import Structure, formed
from raydisc.models.task_heads import weights_of
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import CHOSEN, OfModel, Stage, name_of
from raydisc.stages.broken_off import state_blobs, state_left_by
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import DistilFacts, ImportanceFacts, Score
from raydisc.stages.files import prediction_table, read_split, read_structure, read_weights, table_blob, weight_blobs
from raydisc.stages.importance import read_candidate
from raydisc.stages.kinds import kind_named
from raydisc.stages.models import trainable_model
from raydisc.stages.objective import Objective
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.scoring import Judged, judge
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import weighted_loss
from raydisc.stages.training import Known, Learner, Pupil, Towards, Training
from raydisc.stages.work import Passes, Shape, Work, over_split
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource, pass_flops, steps_of
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.loop import even_steps
from raydisc.training.progress import Evaluation


@dataclass(frozen=True)
class Budget(OfModel):
    """FLOPs that a schedule gives a model beyond its epochs, which follow from the sizes of models and data."""

    @abstractmethod
    def flops(self, request: "Distil", known: Known, source: BatchSource) -> float:
        """Return the FLOPs; negative ones count as none at all.

        Args:
            request: The stage that trains the model.
            known: What the training follows from beside the request.
            source: The batches of the training.
        """


@dataclass(frozen=True)
class Distil(Stage):
    """Train a model of a scale towards a teacher.

    Attributes:
        data: The tokenised task.
        importance: The teacher's sorted weights and its units' scores, which decide what each scale keeps.
        teacher: The model that it is trained towards: the teacher itself, an assistant, or a candidate of a supernet.
        outputs: The outputs of ``teacher``, or None where it is to be run in every step.
        start: The model that the student is cut from.
        scale: The student's scale.
        config: The settings of the training.
        seed: The seed of batches and dropout.
        budget_flops: The FLOPs to train for instead of ``config.epochs``; the teacher's outputs and the evaluations are
            paid from them. Nothing stops early, but with ``config.patience`` the best evaluation's weights are kept, as
            they are without a budget. None trains for the epochs.
        extra: The FLOPs to train for after the epochs; None ends with them, and it is None beside ``budget_flops``.
        form: The kind of structure that the student has in place of its candidate's; None keeps that one.
        until: The share of the steps after which the training is broken off, so that another stage can go on with it;
            None trains to the end. A part of a training is evaluated at its end alone, and its last weights are kept.
        before: The part of the same training that this one goes on from; None begins with the first step.
    """

    kind: ClassVar[str] = "distil"
    version: ClassVar[int] = 5
    data: Artifact
    importance: Artifact
    teacher: Model
    outputs: Artifact | None
    start: Model
    scale: float
    config: DistillationConfig = field(metadata={"but": ("initialisation",)})  # ``start`` is what comes of it
    seed: int
    budget_flops: float | None = None
    extra: Budget | None = field(default=None, metadata={"named": "instead_of"})
    form: Form | None = field(default=None, metadata={"since": None})
    until: float | None = field(default=None, metadata={"since": None})
    before: Artifact | None = field(default=None, metadata={"since": None})

    def __post_init__(self) -> None:
        """Leave out what a budget takes the place of: of epochs and patience only how often is evaluated counts."""
        if self.budget_flops is not None:
            kept = self.config.patience is not None
            fields = type(self.config).model_fields
            settled = {
                "epochs": float(self._evaluations) if kept else fields["epochs"].default,
                "patience": 1 if kept else None,
            }
            object.__setattr__(self, "config", self.config.model_copy(update=settled))
            object.__setattr__(self, "extra", None)

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.config.batch_size

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``; nothing is taken to stop early."""
        training = self.training(outlook)
        validation = outlook.split(self.data, "validation")
        evaluations = over_split(training.structure, validation, max(1, len(training.evaluate_at)))
        left = 0 if training.ends_at is None else outlook.state_bytes(training)
        return Plan(
            facts={"scale": self.scale, "steps": training.own_steps.stop},
            work=Work((*training.passes(), evaluations), training.structure),
            stored=outlook.weight_bytes(training.structure) + left + prediction_bytes(validation, self.data),
            files=outlook.model_files(training.structure, self.scale),
            training=training,
        )

    def training(self, known: Known) -> "DistilTraining":
        """Return the training, which ends with the epochs, what is reinvested or the budget."""
        structure = self._structure(known.store)
        source = known.source(self.data, self.config, self.seed)
        objective, layers = Objective.of(self.config), len(known.cost.layers)
        steps = self._steps(known, source, structure)
        begins_at = 0 if self.before is None else int(self.before["steps"])
        return DistilTraining(
            stage=f"distil to {self.scale:g}",
            known=known,
            config=self.config,
            source=source,
            steps=steps,
            structure=structure,
            towards=Towards(self.data, objective, self.teacher, self.outputs, layers),
            evaluate_at=self._evaluation_steps(steps),
            patience=None if self.budget_flops else self._patience,
            keep_best=self._patience is not None,
            dropout=self.config.dropout,
            begins_at=begins_at,
            ends_at=None if self.until is None else max(begins_at + 1, int(self.until * steps)),
        )

    def compute(self, context: Context) -> Result:
        """Cut the student from where it starts, train it towards its teacher, evaluate it on validation."""
        start = read_weights(context.store, self.start)
        structure = self._structure(context.store)
        model = trainable_model(start.config, structure, structure.cut(start.state, start.config), context)
        set_dropout(model, self.config.dropout)
        cost = ForwardCost.of(model, start.config)
        training = self.training(Known(start.config, cost, context.store, context.device, context.rank))
        validation = read_split(context.store, self.data, "validation")
        predicted: dict[int | None, np.ndarray] = {}

        def judged_at(step: int | None) -> Judged:
            judged = judge(model, cost, structure, validation, self.data, context)
            predicted[step] = judged.predictions
            return judged

        def evaluate(step: int) -> tuple[Evaluation, float]:
            judged = judged_at(step)
            return Evaluation(step, judged.metric, judged.se), judged.flops

        assert training.towards is not None
        begun = None
        if self.before is not None:
            found = DistilFacts.of(self.before)
            begun = state_left_by(self.before, found.steps, bool(found.whole_table), context.store)
        state = training.run(model, context, evaluate, training.towards.targets(context, training.source), begun)
        last = _judgement_of_what_is_kept(state, predicted, judged_at)
        size = structure.size(start.config, ImportanceFacts.of(self.importance).parameters)
        scores = [Score(found.step, "validation", found.metric, _error(found)) for found in state.evaluations]
        facts = DistilFacts(
            scale=self.scale,
            measured_scale=size.measured_scale,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            steps=state.step,
            evaluations=[*scores, Score(None, "validation", last.metric, last.se)],
            whole_table=None if training.ends_at is None else state.whole_table,
        )
        blobs = weight_blobs(start.config, structure, self.scale, weights_of(model), context.rank)
        table = prediction_table({None: last.predictions}, validation.labels, "validation")
        blobs["predictions.arrow"] = table_blob(table)
        if training.ends_at is not None:
            blobs |= state_blobs(state, context.rank)
        return Result(facts.to_json(), state.flops + last.flops, blobs, state.wall_before, state.cpu_before)

    def _structure(self, store: ArtifactStore) -> Structure:
        """Return the student's structure."""
        return formed(read_candidate(store, self.importance, self.scale).structure, self.form)

    def _evaluation_steps(self, steps: int) -> frozenset[int]:
        """Return the steps after which the student is evaluated; empty where nothing is decided there."""
        if self._patience is None:
            return frozenset()
        return even_steps(steps, self._evaluations, last=True)

    @property
    def _patience(self) -> int | None:
        """The patience of the section; None for a part of a training."""
        return self.config.patience if self.until is None and self.before is None else None

    @property
    def _evaluations(self) -> int:
        """The number of evaluations where the best one's weights are kept."""
        return max(1, round(self.config.epochs))

    def _steps(self, known: Known, source: BatchSource, structure: Structure) -> int:
        """Return the steps of the epochs and of what is reinvested, or of the whole budget.

        A teacher that is run in every step is paid from them too.
        """
        cost = known.cost
        teacher = read_structure(known.store, self.teacher) if self.outputs is None else None

        @cache
        def batch_flops(shape: Shape) -> float:
            return STEP_FORWARDS * cost.flops(structure, *shape) + (cost.flops(teacher, *shape) if teacher else 0.0)

        if self.budget_flops is not None:
            steps, budget = 0, self.budget_flops
            evaluations = 1 if self._patience is None else self._evaluations
            spent = evaluations * pass_flops(cost, structure, known.split(self.data, "validation"))
            spent += self.outputs.flops if self.outputs else 0.0
        else:
            steps, spent = steps_of(self.config, source.steps_per_epoch), 0.0
            budget = self.extra.flops(self, known, source) if self.extra else 0.0
        while (spent := spent + batch_flops(known.shape(source, steps))) <= budget:
            steps += 1
        return max(1, steps)

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        path = f"{name_of(self.teacher)} → {CHOSEN if undecided else format(self.scale, 'g')}"
        if self.form is not None:
            path += f" with {self.form.kind}"
        if self.until is not None or self.before is not None:
            return f"{path}, to {'the end' if self.until is None else f'{self.until:.1%} of its steps'}"
        if self.budget_flops is not None:
            return f"{path}, equal compute"
        if kind_named(self.start.artifact.kind).supernet:
            return f"{path}, from the supernet"
        starts_from_another_student = self.start.artifact.kind == Distil.kind and self.start != self.teacher
        return f"{path}, from {name_of(self.start)}" if starts_from_another_student else path


def _judgement_of_what_is_kept(
    state: TrainingState, predicted: Mapping[int | None, np.ndarray], judged_at: Callable[[int | None], Judged]
) -> Judged:
    """Return the judgement on the weights that were kept, or a new one; its FLOPs are those not counted in training."""
    if not state.evaluations:
        return judged_at(None)
    best = state.evaluations[-1 - state.since_best]
    if best.step not in predicted:  # in a process that died: the stage does not pay for it twice
        judged_at(best.step)
    return Judged(best.metric, _error(best), predicted[best.step], flops=0.0)


def _error(found: Evaluation) -> float:
    """Return the standard error of an evaluation of one model, which has one."""
    assert found.se is not None
    return found.se


@dataclass(frozen=True)
class DistilTraining(Training):
    """The training of a model of one scale towards a teacher."""

    def passes(self) -> list[Passes]:
        """See ``Training``; stages with the same batches look at them once."""
        own = self.own_steps
        shapes = self.known.first_shapes(self.source, own.stop) - self.known.first_shapes(self.source, own.start)
        teacher = self.towards.structure_run(self.known.store) if self.towards else None
        return [Passes("train", self.structure, shapes), *([Passes("run", teacher, shapes)] if teacher else [])]

    def learner(self, pupil: Pupil) -> Learner:
        """See ``Training``."""
        assert self.towards is not None
        signal = pupil.signal
        assert signal is not None
        loss = weighted_loss(self.towards.objective, self.towards.data)
        positions, inner = self.towards.student_positions, self.towards.inner_of_student

        def learn(batch: Batch) -> torch.Tensor:
            wanted = signal.outputs(batch)
            value = loss(forward(pupil.model, batch, positions, pupil.precision, inner), wanted, batch)
            value.backward()
            return value.detach()

        return pupil.learning(learn)
