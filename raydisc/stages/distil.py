"""The distillation stage: a model of one scale trained towards a teacher."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from raydisc.models.build import cut
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.stages.context import (
    Context,
    Result,
    prediction_table,
    read_split,
    read_weights,
    read_widths,
    table_blob,
    weight_blobs,
)
from raydisc.stages.evaluate import judge
from raydisc.stages.importance import read_candidate
from raydisc.stages.models import trainable_model
from raydisc.stages.requests import Distil, Model, Objective
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import are_kept, positions, targets_of, tokens_named, weighted_loss
from raydisc.supernet.candidates import size_of
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource, pass_flops, steps_of
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.loop import even_steps, train
from raydisc.training.micro_batches import in_micro_batches


def compute_distil(request: Distil, context: Context) -> Result:
    """Cut the student from where it starts, train it towards its teacher, evaluate it on validation."""
    data, config = request.data, request.config
    start = read_weights(context.store, request.start)
    widths = read_candidate(context.store, request.importance, request.scale).widths
    model = trainable_model(start.config, widths, cut(start.state, start.config, widths), context)
    set_dropout(model, config.dropout)
    cost = ForwardCost.of(model, start.config)
    split = read_split(context.store, data, "train")
    validation = read_split(context.store, data, "validation")
    source = BatchSource(split, config.batch_size, request.seed, data["pad_id"], context.device, rank=context.rank)
    steps = planned_steps(request, context.store, source, cost, widths)

    objective = Objective.of(config)
    student_positions, teacher_positions = positions(objective, len(cost.layers))
    targets = targets_of(
        context, request.outputs, request.teacher, split, teacher_positions, tokens_named(data, objective.top_tokens)
    )
    loss = weighted_loss(objective, data)

    def step(batch: Batch, _: int) -> tuple[torch.Tensor, float]:
        before = targets.flops
        wanted = targets.signal.outputs(batch)
        value = loss(forward(model, batch, student_positions, context.execution.precision), wanted, batch)
        value.backward()
        flops = STEP_FORWARDS * cost.flops(widths, *batch.shape)
        return value.detach(), flops + targets.flops - before

    parted = in_micro_batches(step, context.execution.micro_batches)
    predicted: dict[int | None, np.ndarray] = {}

    def evaluate(step_number: int | None) -> dict[str, Any]:
        judged = judge(model, cost, widths, validation, data, context)
        predicted[step_number] = judged.predictions
        return {**judged.found, "flops": judged.flops}

    patience = None if request.budget_flops else config.patience
    settings = context.loop(
        f"distil to {request.scale:g}", config, source, steps, evaluation_steps(request, steps), patience
    )
    state = train(model, settings, source.batch, parted, evaluate, context.progress, context.rank)
    last = _evaluation_of_what_is_kept(state, predicted, evaluate)
    size = size_of(start.config, request.importance["parameters"], widths)
    facts = {
        "scale": request.scale,
        "measured_scale": size.measured_scale,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": state.step,
        "evaluations": [
            *({"split": "validation", **evaluation} for evaluation in state.evaluations),
            {"step": None, "split": "validation", "metric": last["metric"], "se": last["se"]},
        ],
    }
    blobs = weight_blobs(start.config, widths, request.scale, weights_of(model), context.rank)
    table = prediction_table({None: predicted[last["step"]]}, validation.labels, "validation")
    blobs["predictions.arrow"] = table_blob(table)
    return Result(facts, state.flops + last["flops"], blobs, state.wall_before, state.cpu_before)


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


def evaluation_steps(request: Distil, steps: int) -> frozenset[int]:
    """The steps after which the student is evaluated; none where nothing is decided there."""
    if request.budget_flops or not request.config.patience:
        return frozenset()
    return even_steps(steps, max(1, round(request.config.epochs)), last=True)


def planned_steps(request: Distil, store: ArtifactStore, source: BatchSource, cost: ForwardCost, widths: Widths) -> int:
    """Steps of the epochs and of what is reinvested, or of the whole budget; a teacher that is run is paid too."""
    teacher = None if are_kept(request.outputs) else read_widths(store, request.teacher)

    def step_flops(step: int) -> float:
        shape = source.shape(step)
        return STEP_FORWARDS * cost.flops(widths, *shape) + (cost.flops(teacher, *shape) if teacher else 0.0)

    if request.budget_flops is not None:
        steps, budget = 0, request.budget_flops
        spent = pass_flops(cost, widths, read_split(store, request.data, "validation"))
        spent += request.outputs.flops if request.outputs else 0.0
    else:
        steps, spent = steps_of(request.config, source.steps_per_epoch), 0.0
        budget = _saved(request, store, source, cost)
    while (spent := spent + step_flops(steps)) <= budget:
        steps += 1
    return max(1, steps)


def _saved(request: Distil, store: ArtifactStore, source: BatchSource, cost: ForwardCost) -> float:
    """FLOPs by which the supernet was cheaper than distilling an assistant alone; negative where it was not.

    To either side belong the outputs that were learned from, the teacher's and the assistant's: kept ones are computed
    once for each row, others in every epoch.
    """
    if request.instead_of is None or request.instead_of.scale is None:
        return 0.0
    supernet, scale = request.instead_of.artifact, request.instead_of.scale
    alone = read_candidate(store, request.importance, scale).widths
    taught, teacher = (read_widths(store, model) for model in (request.teacher, Model(request.importance)))
    train, validation = (read_split(store, request.data, split) for split in ("train", "validation"))
    steps = range(steps_of(request.config, source.steps_per_epoch))
    times = 1.0 if are_kept(request.outputs) else request.config.epochs
    path = times * sum(pass_flops(cost, widths, train) for widths in (teacher, alone))
    path += sum(STEP_FORWARDS * cost.flops(alone, *source.shape(step)) for step in steps)
    path += pass_flops(cost, alone, validation)
    search: float = supernet["outputs_flops"] + supernet.flops + times * pass_flops(cost, taught, train)
    return path - search
