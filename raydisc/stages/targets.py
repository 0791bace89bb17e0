"""What a model is trained towards: the loss, the matched positions, and the teacher's outputs."""

from dataclasses import dataclass

from raydisc.losses.layer_mapping import matched_positions
from raydisc.losses.losses import WeightedLoss
from raydisc.models.cost import ForwardCost
from raydisc.signals.cache import HIDDEN_FILE, LOGITS_FILE, TOKENS_FILE, read_images
from raydisc.signals.source import CachedSignal, OnlineSignal, TeacherSignal
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.context import Context
from raydisc.stages.files import read_weights, task_kind_of
from raydisc.stages.models import frozen_model
from raydisc.stages.objective import Objective
from raydisc.tasks.tokenised import Split
from raydisc.training.inference import FlopMeter


def weighted_loss(objective: Objective, data: Artifact) -> WeightedLoss:
    """The loss of an objective on a task.

    Raises:
        InputError: an unknown loss.
    """
    return WeightedLoss.of(dict(objective.losses), objective.temperature, task_kind_of(data).over_classes)


def positions(objective: Objective, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions whose hidden states are compared, of student and of teacher; none where no loss compares any.

    Raises:
        InputError: a position that the model does not have.
    """
    names = {name for name, weight in objective.losses if weight > 0}
    if not any(name.startswith("hidden") for name in names):
        return (), ()
    return matched_positions(objective.layer_mapping, num_layers)


def tokens_named(data: Artifact, top_tokens: int) -> int:
    """How many tokens a language model's outputs name: one at least counts among all others."""
    return min(top_tokens, int(data["vocab_size"]) - 1)


def are_kept(outputs: Artifact | None) -> bool:
    """Whether outputs were computed ahead; else the model is run in every step."""
    return outputs is not None and outputs["source"] != "online"


@dataclass(frozen=True)
class Targets:
    """The teacher's outputs as a stage reads them.

    Attributes:
        signal: gives them for a batch.
        meter: counts the forwards of a teacher that is run here; stays at zero for an artifact's outputs.
    """

    signal: TeacherSignal
    meter: FlopMeter | None

    @property
    def flops(self) -> float:
        """What running the teacher has cost this stage so far."""
        return 0.0 if self.meter is None else self.meter.flops


def targets_of(
    context: Context,
    outputs: Artifact | None,
    teacher: Model,
    split: Split,
    teacher_positions: tuple[int, ...],
    top_tokens: int,
) -> Targets:
    """A teacher's outputs: views of those that were kept, else of the teacher, run in every step.

    Args:
        context: where the stage runs.
        outputs: of the teacher on the training rows; None or online where it is to be run.
        teacher: the model.
        split: training rows.
        teacher_positions: of the hidden states wanted.
        top_tokens: how many tokens a language model's outputs name.
    """
    if outputs is not None and are_kept(outputs):
        read = context.store.map_blob if outputs["source"] == "disk" else context.store.blob
        files = [name for name in (LOGITS_FILE, HIDDEN_FILE, TOKENS_FILE) if name in outputs.blobs]
        with context.store.reading(outputs, " or ".join(files)):
            kept = read_images(*(read(outputs, name) for name in files))
        return Targets(CachedSignal(kept, split.lengths, split.label_counts), None)
    weights = read_weights(context.store, teacher)
    model = frozen_model(weights, context)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.widths)
    return Targets(OnlineSignal(model, teacher_positions, meter, context.execution.precision, top_tokens), meter)
