"""The target of training: the objective, the matched positions, and the teacher's outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from raydisc.config.sections import DistillationConfig
from raydisc.losses.layer_mapping import matched_positions
from raydisc.losses.objective import WeightedLoss, signals_needed
from raydisc.models.cost import ForwardCost
from raydisc.signals.cache import read_outputs
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.inner import InnerSignal
from raydisc.signals.source import CachedSignal, OnlineSignal, TeacherSignal
from raydisc.signals.top_tokens import Grouping
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.context import Context
from raydisc.stages.facts import OutputsFacts, TaskFacts
from raydisc.stages.files import read_weights, task_kind_of
from raydisc.stages.models import frozen_model
from raydisc.stages.objective import Objective
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.tokenised import Split
from raydisc.training.inference import FlopMeter


def weighted_loss(objective: Objective, data: Artifact) -> WeightedLoss:
    """Return the loss of an objective on a tokenised task.

    Raises:
        InputError: A loss is unknown or does not apply to the task.
    """
    return WeightedLoss.of(dict(objective.losses), objective.temperature, task_kind_of(data))


def positions(objective: Objective, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions whose hidden states are compared, of student and of teacher; empty where no loss needs them.

    Raises:
        InputError: A loss is unknown, or the model does not have a position.
    """
    if HiddenStates not in signals_needed(dict(objective.losses)):
        return (), ()
    return matched_positions(objective.layer_mapping, num_layers)


def inner_of(objective: Objective) -> tuple[str, ...]:
    """Return the fields of the signals from inside a model that the losses of an objective compare, sorted."""
    return tuple(sorted(signal.field for signal in signals_needed(dict(objective.losses)) if signal.inner))


def refuse_misfit(objective: Objective, kind: TaskKind, num_layers: int) -> None:
    """Refuse an objective that does not fit a kind of task or a teacher with this number of layers.

    Raises:
        InputError: A loss does not apply to the task, or the teacher does not have a position that is matched.
    """
    WeightedLoss.of(dict(objective.losses), objective.temperature, kind)
    positions(objective, num_layers)


def settled(config: DistillationConfig, kind: TaskKind) -> DistillationConfig:
    """Return a section in which everything that a training by it never reads has its default, so that keys ignore it.

    Args:
        config: The section.
        kind: The kind of the task, which ignores some settings.
    """
    fields = DistillationConfig.model_fields
    losses = {name: weight for name, weight in config.losses.items() if weight > 0}
    unread = kind.ignored if HiddenStates in signals_needed(losses) else {*kind.ignored, "layer_mapping"}
    return config.model_copy(update={"losses": losses} | {name: fields[name].default for name in unread})


def grouping_of(data: Artifact, top_tokens: int, temperature: float) -> Grouping:
    """Return how predictions of a language task are kept: the tokens asked for, fewer than the vocabulary has."""
    return Grouping(min(top_tokens, TaskFacts.of(data).vocab_size - 1), temperature)


@dataclass(frozen=True)
class Targets:
    """The teacher's outputs as a stage reads them.

    Attributes:
        signal: The source of the outputs on a batch.
        meter: The count of the forwards of a teacher that the stage runs itself; None where the outputs are kept.
    """

    signal: TeacherSignal
    meter: FlopMeter | None

    @property
    def flops(self) -> float:
        """FLOPs that running the teacher has cost this stage so far."""
        return 0.0 if self.meter is None else self.meter.flops


def targets_of(
    context: Context,
    outputs: Artifact | None,
    teacher: Model,
    split: Split,
    teacher_positions: tuple[int, ...],
    grouping: Grouping,
    inner: Sequence[type[InnerSignal]] = (),
) -> Targets:
    """Return a teacher's outputs: views of those that were kept, else the teacher itself, run in every step.

    Args:
        context: The context of the stage.
        outputs: The teacher's outputs on the training rows; None where the teacher is to be run in every step.
        teacher: The model.
        split: The training rows.
        teacher_positions: The positions whose hidden states are wanted.
        grouping: The way in which a language model's predictions are kept.
        inner: The signals from inside the teacher that are wanted.
    """
    if outputs is not None:
        in_memory = context.execution.reads_outputs_from(OutputsFacts.of(outputs).bytes) == "memory"
        read = context.store.blob if in_memory else context.store.map_blob
        files = list(outputs.blobs)
        with context.store.reading(outputs, " or ".join(files)):
            kept = read_outputs({name: read(outputs, name) for name in files})
        return Targets(CachedSignal(kept, split.lengths, split.label_counts), None)
    weights = read_weights(context.store, teacher)
    model = frozen_model(weights, context)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.structure)
    signal = OnlineSignal(model, teacher_positions, meter, context.execution.precision, grouping, inner)
    return Targets(signal, meter)
