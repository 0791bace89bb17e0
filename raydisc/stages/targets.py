"""What a model is trained towards: the loss, the matched positions, and the teacher's outputs."""

from dataclasses import dataclass

from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.matching import matched_positions
from raydisc.distillation.teacher_outputs import (
    OnlineSignal,
    TeacherSignal,
    compute_outputs,
    from_tables,
)
from raydisc.models.cost import ForwardCost
from raydisc.models.dense import load_frozen
from raydisc.stages.artifact import Artifact
from raydisc.stages.context import EVALUATION_BATCH, Context, FlopMeter, read_table, read_weights
from raydisc.stages.requests import Model, Objective
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.tokenised import Split


def weighted_loss(objective: Objective, data: Artifact) -> WeightedLoss:
    """The loss of an objective on a task.

    Raises:
        InputError: an unknown loss.
    """
    return WeightedLoss.of(dict(objective.losses), objective.temperature, data["kind"] == "regression")


def positions(objective: Objective, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions whose hidden states are compared, of student and of teacher; none where no loss compares any.

    Raises:
        InputError: a position that the model does not have.
    """
    names = {name for name, weight in objective.losses if weight > 0}
    if not any(name.startswith("hidden") for name in names):
        return (), ()
    return matched_positions(objective.layer_mapping, num_layers)


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


def cached_targets(store: ArtifactStore, outputs: Artifact, split: Split) -> Targets | None:
    """Views of an artifact's outputs in shared memory, or none where they are to be computed online."""
    if outputs["source"] == "online":
        return None
    logits, hidden = (read_table(store, outputs, f"{name}.arrow") for name in ("logits", "hidden"))
    return Targets(from_tables(logits, hidden, split.lengths), None)


def computed_targets(
    context: Context,
    teacher: Model,
    split: Split,
    teacher_positions: tuple[int, ...],
    pad_id: int,
    remember: bool,
) -> Targets:
    """Outputs of a teacher that is run here.

    Args:
        context: where the stage runs.
        teacher: the model.
        split: training rows.
        teacher_positions: of the hidden states wanted.
        pad_id: the tokenizer's padding token.
        remember: compute every row once now; else run the teacher in every step.
    """
    weights = read_weights(context.store, teacher)
    model = load_frozen(weights.config, weights.widths, weights.state).to(context.device)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.widths)
    if remember:
        return Targets(compute_outputs(model, split, teacher_positions, pad_id, EVALUATION_BATCH, meter), meter)
    return Targets(OnlineSignal(model, teacher_positions, meter), meter)
