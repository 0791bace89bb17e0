"""The distillation stage: a model of one scale trained towards a teacher."""

from typing import Any

import numpy as np
from torch import nn

from raydisc.distillation.loop import LoopSettings, evaluation_steps, train
from raydisc.distillation.predict import predict
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.dense import cut, load_trainable
from raydisc.models.families import Config
from raydisc.models.outputs import forward
from raydisc.models.widths import Widths
from raydisc.stages.batches import BatchSource, optimiser_settings, steps_of
from raydisc.stages.context import (
    EVALUATION_BATCH,
    Context,
    FlopMeter,
    Result,
    prediction_table,
    read_split,
    read_weights,
    table_blob,
    weight_blobs,
)
from raydisc.stages.evaluation import score
from raydisc.stages.importance import read_candidate
from raydisc.stages.requests import Distil, Objective
from raydisc.stages.targets import Targets, cached_targets, computed_targets, positions, weighted_loss
from raydisc.stages.teacher_outputs import bytes_needed, fits
from raydisc.supernet.grid import size_at
from raydisc.tasks.tokenised import Batch, Split


def compute_distil(request: Distil, context: Context) -> Result:
    """Cut the student from where it starts, train it towards its teacher, evaluate it on validation."""
    data, config = request.data, request.config
    start = read_weights(context.store, request.start)
    widths = read_candidate(context.store, request.importance, request.scale).widths
    model = load_trainable(start.config, widths, cut(start.state, start.config, widths)).to(context.device)
    cost = ForwardCost.of(model, start.config)
    split = read_split(context.store, data, "train")
    validation = read_split(context.store, data, "validation")
    source = BatchSource(split, config.batch_size, request.seed, data["pad_id"], context.device)
    steps = _steps(request, context, source, cost, widths)

    objective = Objective.of(config)
    student_positions, teacher_positions = positions(objective, len(cost.layers))
    targets = _targets(request, context, split, teacher_positions, steps, start.config)
    loss = weighted_loss(objective, data)

    def step(batch: Batch, _: int) -> tuple[float, float]:
        before = targets.flops
        wanted = targets.signal.outputs(batch)
        value = loss(forward(model, batch, student_positions), wanted, batch)
        value.backward()
        flops = STEP_FORWARDS * cost.flops(widths, *batch.input_ids.shape)
        return float(value.detach()), flops + targets.flops - before

    def evaluate(_: int) -> dict[str, Any]:
        predictions, flops = _predict(model, request, validation, FlopMeter(cost, widths))
        return {**score(data["metric"], predictions, validation.labels), "flops": flops}

    patience = None if request.budget_flops else config.patience
    settings = LoopSettings(
        stage=f"distil to {request.scale:g}",
        total_steps=steps,
        seed=request.seed,
        optimiser=optimiser_settings(config),
        evaluate_at=evaluation_steps(steps, source.steps_per_epoch, 1, patience) if patience else frozenset(),
        patience=patience,
        checkpoint_folder=context.checkpoint_folder,
        checkpoint_every_s=context.checkpoint_every_s,
    )
    ahead = targets.flops
    state = train(model, settings, source.batch, step, evaluate, context.progress)
    predictions, flops = _predict(model, request, validation, FlopMeter(cost, widths))
    found = score(data["metric"], predictions, validation.labels)
    size = size_at(start.config, request.importance["parameters"], request.scale)
    facts = {
        "scale": request.scale,
        "measured_scale": size.measured_scale,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": state.step,
        "evaluations": [
            *({"split": "validation", **evaluation} for evaluation in state.evaluations),
            {"step": None, "split": "validation", **found},
        ],
    }
    blobs = weight_blobs(start.config, widths, request.scale, model.state_dict())
    blobs["predictions.arrow"] = table_blob(prediction_table({None: predictions}, validation.labels, "validation"))
    return Result(facts, ahead + state.flops + flops, blobs, state.wall_before, state.cpu_before)


def _targets(
    request: Distil,
    context: Context,
    split: Split,
    teacher_positions: tuple[int, ...],
    steps: int,
    config: Config,
) -> Targets:
    """The teacher's outputs: an artifact's; else computed once, if they fit, for rows that are seen more than once."""
    if request.outputs is not None:
        cached = cached_targets(context.store, request.outputs, split)
        if cached is not None:
            return cached
    data = request.data
    again = steps * request.config.batch_size >= len(split)
    needed = bytes_needed(split, teacher_positions, config.hidden_size, data["num_labels"])
    remember = again and fits(request.teacher_outputs, needed)
    return computed_targets(context, request.teacher, split, teacher_positions, data["pad_id"], remember)


def _predict(model: nn.Module, request: Distil, split: Split, meter: FlopMeter) -> tuple[np.ndarray, float]:
    predictions = predict(model, split, request.data["pad_id"], EVALUATION_BATCH, meter)
    return predictions, meter.flops


def _steps(request: Distil, context: Context, source: BatchSource, cost: ForwardCost, widths: Widths) -> int:
    """Steps of the epochs asked for, or as many as the FLOPs allow; a teacher run in every step is paid too."""
    if request.budget_flops is None:
        return steps_of(request.config, source.steps_per_epoch)
    online = request.outputs is None or request.outputs["source"] == "online"
    teacher = read_weights(context.store, request.teacher).widths if online else None
    spent, steps = 0.0, 0
    while spent < request.budget_flops:
        shape = source.shape(steps)
        spent += STEP_FORWARDS * cost.flops(widths, *shape)
        spent += cost.flops(teacher, *shape) if teacher else 0.0
        steps += 1
    return max(1, steps)
