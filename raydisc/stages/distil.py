"""The distillation stage: a model of one scale trained towards a teacher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from raydisc.config.sections import DistillationConfig
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.precision import Precision
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.parallel.rank import ALONE, Rank
from raydisc.signals.source import TeacherSignal
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import CHOSEN, Stage, name_of
from raydisc.stages.context import Context, Result
from raydisc.stages.files import prediction_table, read_split, read_weights, read_widths, table_blob, weight_blobs
from raydisc.stages.importance import read_candidate
from raydisc.stages.kinds import kind_named
from raydisc.stages.models import trainable_model
from raydisc.stages.objective import Objective
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.scoring import judge
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import are_kept, weighted_loss
from raydisc.stages.training import Known, Learner, Towards, Training
from raydisc.stages.work import Passes, Work, over_split
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource, pass_flops, steps_of
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.loop import even_steps
from raydisc.training.micro_batches import in_micro_batches


@dataclass(frozen=True)
class Distil(Stage):
    """Train a model of a scale towards a teacher.

    Attributes:
        data: tokenised task.
        importance: the teacher's sorted weights, which say what each scale keeps.
        teacher: who teaches: the teacher itself, an assistant, or a candidate of the supernet.
        outputs: the teacher's outputs, or None where ``teacher`` is to be run in every step.
        start: the model that the student is cut from.
        scale: the student's.
        config: how.
        seed: of batches and dropout.
        budget_flops: train as long as this many FLOPs allow instead of ``config.epochs``, without early stop; the
            teacher's outputs are paid from them.
        instead_of: an assistant of the grid, by its supernet; train on after ``config.epochs`` for what supernet and
            chosen assistant's outputs cost less than this assistant, distilled alone, and its outputs.
    """

    kind: ClassVar[str] = "distil"
    version: ClassVar[int] = 4
    data: Artifact
    importance: Artifact
    teacher: Model
    outputs: Artifact | None
    start: Model
    scale: float
    config: DistillationConfig = field(metadata={"but": ("initialisation",)})  # ``start`` is what comes of it
    seed: int
    budget_flops: float | None = None
    instead_of: Model | None = None

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.config.batch_size

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``; nothing is taken to stop early."""
        training = self.training(outlook)
        validation = read_split(outlook.store, self.data, "validation")
        evaluations = over_split(training.widths, validation, max(1, len(training.evaluate_at)))
        return Plan(
            facts={"scale": self.scale, "steps": training.steps},
            work=Work((*training.passes(), evaluations), training.widths),
            stored=outlook.weight_bytes(training.widths) + prediction_bytes(validation, self.data["num_labels"]),
            files=outlook.model_files(training.widths, self.scale),
            training=training,
        )

    def training(self, known: Known) -> "DistilTraining":
        """Return the training, which ends with the epochs, what is reinvested or the budget."""
        widths = read_candidate(known.store, self.importance, self.scale).widths
        source = known.source(self.data, self.config, self.seed)
        objective, layers = Objective.of(self.config), len(known.cost.layers)
        steps = self._steps(known, source, widths)
        return DistilTraining(
            stage=f"distil to {self.scale:g}",
            known=known,
            config=self.config,
            source=source,
            steps=steps,
            widths=widths,
            towards=Towards(self.data, objective, self.teacher, self.outputs, layers),
            evaluate_at=self._evaluation_steps(steps),
            patience=None if self.budget_flops else self.config.patience,
            dropout=self.config.dropout,
        )

    def compute(self, context: Context) -> Result:
        """Cut the student from where it starts, train it towards its teacher, evaluate it on validation."""
        start = read_weights(context.store, self.start)
        widths = read_candidate(context.store, self.importance, self.scale).widths
        model = trainable_model(start.config, widths, widths.cut(start.state, start.config), context)
        set_dropout(model, self.config.dropout)
        cost = ForwardCost.of(model, start.config)
        training = self.training(Known(start.config, cost, context.store, context.device, context.rank))
        validation = read_split(context.store, self.data, "validation")
        predicted: dict[int | None, np.ndarray] = {}

        def evaluate(step_number: int | None) -> dict[str, Any]:
            judged = judge(model, cost, widths, validation, self.data, context)
            predicted[step_number] = judged.predictions
            return {**judged.found, "flops": judged.flops}

        assert training.towards is not None
        state = training.run(model, context, evaluate, training.towards.targets(context, training.source))
        last = _evaluation_of_what_is_kept(state, predicted, evaluate)
        size = widths.size(start.config, self.importance["parameters"])
        facts = {
            "scale": self.scale,
            "measured_scale": size.measured_scale,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "steps": state.step,
            "evaluations": [
                *({"split": "validation", **evaluation} for evaluation in state.evaluations),
                {"step": None, "split": "validation", "metric": last["metric"], "se": last["se"]},
            ],
        }
        blobs = weight_blobs(start.config, widths, self.scale, weights_of(model), context.rank)
        table = prediction_table({None: predicted[last["step"]]}, validation.labels, "validation")
        blobs["predictions.arrow"] = table_blob(table)
        return Result(facts, state.flops + last["flops"], blobs, state.wall_before, state.cpu_before)

    def _evaluation_steps(self, steps: int) -> frozenset[int]:
        """Return the steps after which the student is evaluated; empty where nothing is decided there."""
        if self.budget_flops or not self.config.patience:
            return frozenset()
        return even_steps(steps, max(1, round(self.config.epochs)), last=True)

    def _steps(self, known: Known, source: BatchSource, widths: Widths) -> int:
        """Return the steps of the epochs and of what is reinvested, or of the whole budget.

        A teacher that is run in every step is paid from them too.
        """
        cost = known.cost
        teacher = None if are_kept(self.outputs) else read_widths(known.store, self.teacher)

        def step_flops(step: int) -> float:
            shape = source.shape(step)
            return STEP_FORWARDS * cost.flops(widths, *shape) + (cost.flops(teacher, *shape) if teacher else 0.0)

        if self.budget_flops is not None:
            steps, budget = 0, self.budget_flops
            spent = pass_flops(cost, widths, read_split(known.store, self.data, "validation"))
            spent += self.outputs.flops if self.outputs else 0.0
        else:
            steps, spent = steps_of(self.config, source.steps_per_epoch), 0.0
            budget = _saved(self, known.store, source, cost)
        while (spent := spent + step_flops(steps)) <= budget:
            steps += 1
        return max(1, steps)

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        path = f"{name_of(self.teacher)} → {CHOSEN if undecided else format(self.scale, 'g')}"
        if self.budget_flops is not None:
            return f"{path}, equal compute"
        return f"{path}, from the supernet" if kind_named(self.start.artifact.kind).supernet else path


def _evaluation_of_what_is_kept(
    state: TrainingState,
    predicted: Mapping[int | None, np.ndarray],
    evaluate: Callable[[int | None], dict[str, Any]],
) -> dict[str, Any]:
    """The evaluation whose weights were kept, else a new one; ``flops`` are those that training has not counted."""
    if not state.evaluations:
        return {"step": None, **evaluate(None)}
    best = state.evaluations[-1 - state.since_best]
    if best["step"] not in predicted:  # in a process that died: doing it again is no cost of the stage
        evaluate(best["step"])
    return {**best, "flops": 0.0}


@dataclass(frozen=True)
class DistilTraining(Training):
    """The training of a model of one scale towards a teacher."""

    def passes(self) -> list[Passes]:
        """See ``Training``; stages with the same batches look at them once."""
        shapes = self.known.first_shapes(self.source, self.steps)
        teacher = self.towards.widths_run(self.known.store) if self.towards else None
        return [Passes("train", self.widths, shapes), *([Passes("run", teacher, shapes)] if teacher else [])]

    def learner(
        self,
        model: nn.Module,
        signal: TeacherSignal | None,
        precision: Precision,
        micro_batches: int = 1,
        rank: Rank = ALONE,
    ) -> Learner:
        """See ``Training``."""
        assert self.towards is not None
        assert signal is not None
        loss = weighted_loss(self.towards.objective, self.towards.data)
        positions = self.towards.student_positions

        def learn(batch: Batch) -> torch.Tensor:
            wanted = signal.outputs(batch)
            value = loss(forward(model, batch, positions, precision), wanted, batch)
            value.backward()
            return value.detach()

        learned = in_micro_batches(learn, micro_batches)
        return lambda assigned: learned(assigned[0][1])


def _saved(request: Distil, store: ArtifactStore, source: BatchSource, cost: ForwardCost) -> float:
    """FLOPs by which the supernet was cheaper than distilling an assistant alone; negative where it was not.

    To either side belong the outputs that were learned from, the teacher's and the assistant's: kept ones are computed
    once for each row, others in every epoch.
    """
    if request.instead_of is None or request.instead_of.scale is None:
        return 0.0
    supernet, scale = request.instead_of.artifact, request.instead_of.scale
    alone = read_candidate(store, request.importance, scale).widths
    assistant, teacher = (read_widths(store, model) for model in (request.teacher, Model(request.importance)))
    train, validation = (read_split(store, request.data, split) for split in ("train", "validation"))
    steps = range(steps_of(request.config, source.steps_per_epoch))
    times = 1.0 if are_kept(request.outputs) else request.config.epochs
    path = times * sum(pass_flops(cost, widths, train) for widths in (teacher, alone))
    path += sum(STEP_FORWARDS * cost.flops(alone, *source.shape(step)) for step in steps)
    path += pass_flops(cost, alone, validation)
    search: float = supernet["outputs_flops"] + supernet.flops + times * pass_flops(cost, assistant, train)
    return path - search
