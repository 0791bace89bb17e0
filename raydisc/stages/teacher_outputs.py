"""The stage that computes the teacher's outputs once."""

from raydisc.distillation.teacher_outputs import cache_bytes, compute_outputs, to_tables
from raydisc.errors import InputError
from raydisc.models.cost import ForwardCost
from raydisc.models.dense import load_frozen
from raydisc.settings import TeacherOutputsConfig
from raydisc.stages.context import (
    EVALUATION_BATCH,
    Context,
    FlopMeter,
    Result,
    read_split,
    read_weights,
    table_blob,
)
from raydisc.stages.requests import Model, TeacherOutputs
from raydisc.tasks.tokenised import Split

_GIB = 2**30


def bytes_needed(split: Split, positions: tuple[int, ...], hidden_size: int, num_labels: int) -> int:
    """Bytes of a teacher's outputs on every row of a split."""
    return cache_bytes(len(split), int(split.lengths.sum()), len(positions), hidden_size, num_labels)


def fits(config: TeacherOutputsConfig, needed: int) -> bool:
    """Whether outputs of so many bytes are to be kept rather than computed in every step."""
    return config.source != "online" and needed <= config.budget_gib * _GIB


def compute_teacher_outputs(request: TeacherOutputs, context: Context) -> Result:
    """Compute and keep the outputs, unless they are to be computed online.

    Raises:
        InputError: they are to be cached but the budget is too small.
    """
    data = request.data
    weights = read_weights(context.store, Model(request.teacher))
    split = read_split(context.store, data, "train")
    needed = bytes_needed(split, request.positions, weights.config.hidden_size, data["num_labels"])
    kept = fits(request.config, needed)
    if request.config.source == "cached" and not kept:
        raise InputError(
            f"teacher_outputs: {needed / _GIB:.2f} GiB do not fit budget_gib: {request.config.budget_gib:g}; "
            "raise it, or set source: auto to run the teacher in every step"
        )
    facts = {"bytes": needed, "positions": list(request.positions)}
    if not kept:
        return Result({**facts, "source": "online"}, flops=0.0)
    model = load_frozen(weights.config, weights.widths, weights.state).to(context.device)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.widths)
    signal = compute_outputs(model, split, request.positions, data["pad_id"], EVALUATION_BATCH, meter)
    logits, hidden = to_tables(signal)
    blobs = {"logits.arrow": table_blob(logits), "hidden.arrow": table_blob(hidden)}
    return Result({**facts, "source": "cached"}, meter.flops, blobs)
