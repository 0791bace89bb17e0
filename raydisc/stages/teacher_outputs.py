"""The stage that computes the teacher's outputs once."""

from raydisc.distillation.teacher_outputs import cache_bytes, compute_outputs, to_tables
from raydisc.errors import InputError
from raydisc.models.cost import ForwardCost
from raydisc.models.dense import load_frozen
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

_GIB = 2**30


def compute_teacher_outputs(request: TeacherOutputs, context: Context) -> Result:
    """Compute and keep the outputs, unless they are to be computed online.

    Raises:
        InputError: they are to be cached but the budget is too small.
    """
    data = request.data
    weights = read_weights(context.store, Model(request.teacher))
    split = read_split(context.store, data, "train")
    needed = cache_bytes(
        len(split),
        int(split.lengths.sum()),
        len(request.positions),
        weights.config.hidden_size,
        data["num_labels"],
    )
    fits = needed <= request.config.budget_gib * _GIB
    if request.config.source == "cached" and not fits:
        raise InputError(
            f"teacher_outputs: {needed / _GIB:.2f} GiB do not fit budget_gib: {request.config.budget_gib:g}; "
            "raise it, or set source: auto to run the teacher in every step"
        )
    facts = {"bytes": needed, "positions": list(request.positions)}
    if request.config.source == "online" or not fits:
        return Result({**facts, "source": "online"}, flops=0.0)
    model = load_frozen(weights.config, weights.widths, weights.state).to(context.device)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.widths)
    signal = compute_outputs(model, split, request.positions, data["pad_id"], EVALUATION_BATCH, meter)
    logits, hidden = to_tables(signal)
    blobs = {"logits.arrow": table_blob(logits), "hidden.arrow": table_blob(hidden)}
    return Result({**facts, "source": "cached"}, meter.flops, blobs)
