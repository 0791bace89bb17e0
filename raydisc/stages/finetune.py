"""The stage that makes the teacher, or takes in a finished one."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from raydisc.config.sections import FineTuneConfig, TeacherConfig
from raydisc.losses.labels import task_loss
from raydisc.models.architecture import from_architecture
from raydisc.models.checkpoint_state import CheckpointState
from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.models.structure import full_structure
from raydisc.models.task_heads import model_class, weights_of
from raydisc.models.teacher_checkpoint import load_teacher, locate, suited_config
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import NOT_IN_KEY, Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import ModelFacts, Score, TaskFacts
from raydisc.stages.files import Weights, prediction_table, read_split, table_blob, task_kind_of, weight_blobs
from raydisc.stages.models import frozen_model, to_train, trainable_model
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.scoring import judge, run_evaluation
from raydisc.stages.training import Known, Learner, Pupil, Training
from raydisc.stages.work import Work, over_split
from raydisc.tasks.batching import shorter_half
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource, steps_of
from raydisc.training.checkpoint import TrainingState
from raydisc.training.loop import no_evaluation


@dataclass(frozen=True)
class LabelTraining(Training):
    """The training of a model on the labels."""

    def learner(self, pupil: Pupil) -> Learner:
        """See ``Training``."""

        def learn(batch: Batch) -> torch.Tensor:
            total, count = task_loss(forward(pupil.model, batch, (), pupil.precision).logits, batch)
            loss = total / count
            loss.backward()
            return loss.detach()

        return pupil.learning(learn)


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
        structure = full_structure(model.config)
        cost = ForwardCost.of(model, model.config)
        training = self.training(Known(model.config, cost, context.store, context.device, context.rank))
        state = TrainingState() if training is None else training.run(model, context, no_evaluation, None)
        validation = read_split(context.store, data, "validation")
        judged = judge(model, cost, structure, validation, data, context)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        facts = ModelFacts(parameters, [Score(None, "validation", judged.metric, judged.se)]).to_json()
        blobs = weight_blobs(model.config, structure, 1.0, weights_of(model), context.rank)
        blobs["predictions.arrow"] = table_blob(
            prediction_table({None: judged.predictions}, validation.labels, "validation")
        )
        return Result(facts, state.flops + judged.flops, blobs, state.wall_before, state.cpu_before)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        structure, training = full_structure(outlook.config), self.training(outlook)
        validation = outlook.split(self.data, "validation")
        passes = [over_split(structure, validation), *(training.passes() if training else [])]
        return Plan(
            facts=ModelFacts(outlook.teacher_parameters, []).to_json(),
            work=Work(tuple(passes), structure if training else None),
            stored=outlook.weight_bytes(structure) + prediction_bytes(validation, self.data),
            files=outlook.model_files(structure, 1.0),
            training=training,
            run=run_evaluation,
        )

    def training(self, known: Known) -> Training | None:
        """Return the training, the shorter rows first where that is asked for; None for a finished teacher."""
        if self.finetune is None:
            return None
        config, split = self.finetune, known.split(self.data, "train")
        steps = steps_of(config, -(-len(split) // config.batch_size))
        short_rows, short_steps = shorter_half(split.lengths), round(config.curriculum * steps)
        source = BatchSource(
            split, config.batch_size, self.seed, TaskFacts.of(self.data).pad_id, known.device,
            lambda step: short_rows if step < short_steps else None, known.rank,
        )  # fmt: skip
        return LabelTraining("finetune", known, config, source, steps, full_structure(known.config))

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return "fine-tune the teacher" if self.finetune else "take in the teacher"


def _initial_model(teacher: TeacherConfig, data: Artifact, context: Context) -> nn.Module:
    """Return the model as it is before the stage; one from scratch is whole on every worker before it is sharded."""
    facts, kind = TaskFacts.of(data), task_kind_of(data)
    num_labels, pad_id = facts.num_labels, facts.pad_id
    alone = context.rank.mesh is None
    if teacher.model is None:
        config = from_architecture(teacher.architecture or {}, facts.vocab_size, kind, num_labels, pad_id)
        model: nn.Module = model_class(config).from_config(config)
        if alone:
            return to_train(model, context)
        return trainable_model(config, full_structure(config), weights_of(model), context)
    folder, finished = locate(teacher.model), teacher.finetune is None
    if alone:
        loaded = load_teacher(folder, kind, num_labels, pad_id, finished, teacher.trust_remote_code)
        return loaded.to(context.device) if finished else to_train(loaded, context)
    config = suited_config(folder, kind, num_labels, pad_id, finished, teacher.trust_remote_code)
    state, structure = CheckpointState(folder, config, finished), full_structure(config)
    if finished:
        return frozen_model(Weights(config, structure, state, 1.0), context)
    return trainable_model(config, structure, state, context)
