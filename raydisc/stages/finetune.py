"""The stage that makes the teacher, or takes in a finished one."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from raydisc.config.sections import FineTuneConfig, TeacherConfig
from raydisc.losses.labels import task_loss
from raydisc.models.architecture import from_architecture
from raydisc.models.checkpoint_state import CheckpointState
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.task_heads import model_class, weights_of
from raydisc.models.teacher_checkpoint import load_teacher, locate, suited_config
from raydisc.models.widths import Widths
from raydisc.parallel.rank import ALONE, Rank
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import NOT_IN_KEY, Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.files import Weights, prediction_table, read_split, table_blob, task_kind_of, weight_blobs
from raydisc.stages.models import frozen_model, to_train, trainable_model
from raydisc.stages.scoring import judge
from raydisc.tasks.batching import shorter_half
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.batches import BatchSource, steps_of
from raydisc.training.checkpoint import TrainingState
from raydisc.training.loop import no_evaluation, train
from raydisc.training.micro_batches import in_micro_batches


@dataclass(frozen=True)
class FineTune(Stage):
    """Train the teacher, or take in a finished one (``finetune`` None)."""

    kind: ClassVar[str] = "finetune"
    prepares: ClassVar[bool] = True
    version: ClassVar[int] = 2
    data: Artifact
    weights_fingerprint: str
    finetune: FineTuneConfig | None
    seed: int
    teacher: TeacherConfig = field(metadata=NOT_IN_KEY)

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.finetune.batch_size if self.finetune else super().batch_size

    def compute(self, context: Context) -> Result:
        """Train the teacher on the labels where that is asked for, then evaluate it on validation."""
        data = self.data
        torch.manual_seed(self.seed)
        model = _initial_model(self.teacher, data, context)
        widths = Widths.full(model.config)
        cost = ForwardCost.of(model, model.config)
        state = TrainingState()
        if self.finetune is not None:
            state = _finetune(model, self, self.finetune, cost, context)
        validation = read_split(context.store, data, "validation")
        judged = judge(model, cost, widths, validation, data, context)
        facts = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "evaluations": [{"step": None, "split": "validation", **judged.found}],
        }
        blobs = weight_blobs(model.config, widths, 1.0, weights_of(model), context.rank)
        blobs["predictions.arrow"] = table_blob(
            prediction_table({None: judged.predictions}, validation.labels, "validation")
        )
        return Result(facts, state.flops + judged.flops, blobs, state.wall_before, state.cpu_before)

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return "fine-tune the teacher" if self.finetune else "take in the teacher"


def _initial_model(teacher: TeacherConfig, data: Artifact, context: Context) -> nn.Module:
    """The model as it is before the stage; one from scratch is whole on every worker before it is sharded."""
    kind, num_labels, pad_id = task_kind_of(data), data["num_labels"], data["pad_id"]
    alone = context.rank.mesh is None
    if teacher.model is None:
        config = from_architecture(teacher.architecture or {}, data["vocab_size"], kind, num_labels, pad_id)
        model: nn.Module = model_class(config).from_config(config)
        if alone:
            return to_train(model, context)
        return trainable_model(config, Widths.full(config), weights_of(model), context)
    folder, finished = locate(teacher.model), teacher.finetune is None
    if alone:
        return to_train(load_teacher(folder, kind, num_labels, pad_id, finished, teacher.trust_remote_code), context)
    config = suited_config(folder, kind, num_labels, pad_id, finished, teacher.trust_remote_code)
    state, widths = CheckpointState(folder, config, finished), Widths.full(config)
    if finished:
        return frozen_model(Weights(config, widths, state, 1.0), context)
    return trainable_model(config, widths, state, context)


def curriculum_of(
    request: FineTune, config: FineTuneConfig, split: Split, device: torch.device, rank: Rank = ALONE
) -> tuple[BatchSource, int]:
    """The batch of every step, the shorter rows first where that is asked for, and how many steps there are."""
    steps = steps_of(config, -(-len(split) // config.batch_size))
    short_rows, short_steps = shorter_half(split.lengths), round(config.curriculum * steps)
    source = BatchSource(
        split,
        config.batch_size,
        request.seed,
        request.data["pad_id"],
        device,
        lambda step: short_rows if step < short_steps else None,
        rank,
    )
    return source, steps


def _finetune(
    model: nn.Module, request: FineTune, config: FineTuneConfig, cost: ForwardCost, context: Context
) -> TrainingState:
    split = read_split(context.store, request.data, "train")
    source, steps = curriculum_of(request, config, split, context.device, context.rank)
    widths = Widths.full(model.config)

    def step(batch: Batch, _: int) -> tuple[torch.Tensor, float]:
        total, count = task_loss(forward(model, batch, (), context.execution.precision).logits, batch)
        loss = total / count
        loss.backward()
        return loss.detach(), STEP_FORWARDS * cost.flops(widths, *batch.shape)

    settings = context.loop("finetune", config, source, steps)
    parted = in_micro_batches(step, context.execution.micro_batches)
    return train(model, settings, source.batch, parted, no_evaluation, context.progress, context.rank)
