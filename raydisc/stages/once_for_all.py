"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raydisc.distillation.loop import LoopSettings, evaluation_steps, train
from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.predict import predict
from raydisc.distillation.sandwich import sandwich
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.dense import cut, load_trainable
from raydisc.models.outputs import Outputs, forward
from raydisc.models.widths import Widths
from raydisc.stages.batches import BatchSource, optimiser_settings, steps_of
from raydisc.stages.context import (
    EVALUATION_BATCH,
    Context,
    FlopMeter,
    Result,
    Weights,
    prediction_table,
    read_split,
    read_weights,
    table_blob,
    weight_blobs,
)
from raydisc.stages.evaluation import score
from raydisc.stages.importance import read_candidate
from raydisc.stages.requests import Model, OnceForAll
from raydisc.stages.targets import cached_targets, computed_targets, positions, weighted_loss
from raydisc.supernet.elastic import make_elastic, select
from raydisc.supernet.grid import Candidate, size_at
from raydisc.tasks.tokenised import Batch, Split


@dataclass(frozen=True)
class Supernet:
    """The elastic model with its candidates, largest first."""

    model: nn.Module
    weights: Weights
    candidates: tuple[Candidate, ...]
    cost: ForwardCost

    def select(self, candidate: Candidate) -> None:
        """Make a candidate the active one."""
        select(self.model, self.weights.config, candidate.widths)


def build_supernet(request: OnceForAll, context: Context) -> Supernet:
    """The sorted teacher, cut to the largest candidate and made elastic."""
    teacher = read_weights(context.store, Model(request.importance))
    scales = sorted(request.scales, reverse=True)
    candidates = tuple(read_candidate(context.store, request.importance, scale) for scale in scales)
    largest = candidates[0]
    state = cut(teacher.state, teacher.config, largest.widths)
    model = load_trainable(teacher.config, largest.widths, state).to(context.device)
    make_elastic(model, teacher.config)
    weights = Weights(teacher.config, largest.widths, state, largest.scale)
    return Supernet(model, weights, candidates, ForwardCost.of(model, teacher.config))


def compute_once_for_all(request: OnceForAll, context: Context) -> Result:
    """Train by the sandwich rule, then evaluate every candidate (arXiv 2205.14570, section 3.3)."""
    supernet = build_supernet(request, context)
    split = read_split(context.store, request.data, "train")
    validation = read_split(context.store, request.data, "validation")
    student_positions, teacher_positions = positions(request.objective, len(supernet.cost.layers))
    pad_id = request.data["pad_id"]
    targets = cached_targets(context.store, request.outputs, split) or computed_targets(
        context, Model(request.importance), split, teacher_positions, pad_id, remember=False
    )
    loss = weighted_loss(request.objective, request.data)
    source = BatchSource(split, request.config.batch_size, request.seed, pad_id, context.device)
    steps = steps_of(request.config, source.steps_per_epoch)

    def step(batch: Batch, index: int) -> tuple[float, float]:
        before = targets.flops
        wanted = targets.signal.outputs(batch)
        active = sandwich(supernet.candidates, request.config.sandwich, request.seed, index)
        total = sandwich_backward(supernet, active, batch, wanted, loss, student_positions)
        forwards = sum(supernet.cost.flops(candidate.widths, *batch.input_ids.shape) for candidate in active)
        return total, STEP_FORWARDS * forwards + targets.flops - before

    def evaluate(step_number: int) -> dict[str, Any]:
        found, _, flops = evaluate_candidates(supernet, request, validation)
        return {"metric": float(np.mean([row["metric"] for row in found])), "flops": flops, "candidates": found}

    config = request.config
    settings = LoopSettings(
        stage="once_for_all",
        total_steps=steps,
        seed=request.seed,
        optimiser=optimiser_settings(config),
        evaluate_at=evaluation_steps(steps, source.steps_per_epoch, config.evaluations_per_epoch, config.patience),
        patience=config.patience,
        checkpoint_folder=context.checkpoint_folder,
        checkpoint_every_s=context.checkpoint_every_s,
    )
    state = train(supernet.model, settings, source.batch, step, evaluate, context.progress)
    rows, predictions, flops = evaluate_candidates(supernet, request, validation)
    context.progress({"step": state.step, "steps": steps, "candidates": rows})
    facts = {
        "candidates": _described(supernet, request, rows, validation),
        "evaluations": _history(state.evaluations, rows),
        "steps": state.step,
        "sandwich": request.config.sandwich,
    }
    weights = supernet.weights
    blobs = weight_blobs(weights.config, weights.widths, weights.scale, supernet.model.state_dict())
    blobs["predictions.arrow"] = table_blob(prediction_table(predictions, validation.labels, "validation"))
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


def sandwich_backward(
    supernet: Supernet,
    active: Sequence[Candidate],
    batch: Batch,
    wanted: Outputs,
    loss: WeightedLoss,
    student_positions: tuple[int, ...],
) -> float:
    """Accumulate the gradients of the active candidates' losses, each backward before the next forward.

    Returns:
        The sum of their losses.
    """
    losses = []
    for candidate in active:
        supernet.select(candidate)
        value = loss(forward(supernet.model, batch, student_positions), wanted, batch)
        value.backward()
        losses.append(value.detach())
    return float(torch.stack(losses).sum())


def evaluate_candidates(
    supernet: Supernet, request: OnceForAll, validation: Split
) -> tuple[list[dict[str, Any]], dict[float | None, np.ndarray], float]:
    """Metric and standard error of every candidate, its predictions by scale, and the FLOPs."""
    data = request.data
    rows: list[dict[str, Any]] = []
    predictions: dict[float | None, np.ndarray] = {}
    flops = 0.0
    for candidate in supernet.candidates:
        supernet.select(candidate)
        meter = FlopMeter(supernet.cost, candidate.widths)
        logits = predict(supernet.model, validation, data["pad_id"], EVALUATION_BATCH, meter)
        flops += meter.flops
        predictions[candidate.scale] = logits
        parameters = size_at(supernet.weights.config, request.importance["parameters"], candidate.scale).parameters
        found = score(data["metric"], logits, validation.labels)
        rows.append({"scale": candidate.scale, "parameters": parameters, **found})
    return rows, predictions, flops


def _described(
    supernet: Supernet, request: OnceForAll, rows: Sequence[Mapping[str, Any]], validation: Split
) -> list[dict[str, Any]]:
    config = supernet.weights.config
    length = round(float(validation.lengths.mean()))
    teacher_flops = supernet.cost.flops(Widths.full(config), 1, length)
    described = []
    for candidate, row in zip(supernet.candidates, rows, strict=True):
        size = size_at(config, request.importance["parameters"], candidate.scale)
        flops = supernet.cost.flops(candidate.widths, 1, length)
        described.append(
            {
                **row,
                "measured_scale": size.measured_scale,
                "parameters": size.parameters,
                "flops": flops,
                "flops_share": flops / teacher_flops,
                "heads": list(candidate.widths.heads),
                "neurons": list(candidate.widths.neurons),
            }
        )
    return described


def _history(evaluations: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each evaluation of each candidate; the last one's step is None."""
    history = [
        {"step": evaluation["step"], "split": "validation", **row}
        for evaluation in evaluations
        for row in evaluation["candidates"]
    ]
    return [*history, *({"step": None, "split": "validation", **row} for row in last)]
