"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raydisc.distillation.checkpoint import evaluations_in
from raydisc.distillation.dropout import set_dropout
from raydisc.distillation.loop import LoopSettings, even_steps, train
from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.sandwich import Share, sandwich
from raydisc.distillation.teacher_outputs import TeacherSignal
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.outputs import Outputs, forward
from raydisc.stages.batches import BatchSource, optimiser_settings, steps_of
from raydisc.stages.contest import Contest
from raydisc.stages.context import Context, Result, prediction_table, read_split, table_blob, weight_blobs
from raydisc.stages.requests import Model, OnceForAll
from raydisc.stages.supernet import Supernet, build_supernet, described, draw_chances, evaluate_candidates
from raydisc.stages.targets import positions, targets_of, weighted_loss
from raydisc.supernet.grid import Candidate
from raydisc.tasks.tokenised import Batch


def compute_once_for_all(request: OnceForAll, context: Context) -> Result:
    """Train by the sandwich rule, then evaluate the candidates (arXiv 2205.14570, section 3.3).

    Candidates that cannot be chosen any more are left out while it runs, where the settings say so.
    """
    config, data = request.config, request.data
    supernet = build_supernet(request, context)
    set_dropout(supernet.model, config.dropout)
    split = read_split(context.store, data, "train")
    validation = read_split(context.store, data, "validation")
    student_positions, teacher_positions = positions(request.objective, len(supernet.cost.layers))
    targets = targets_of(context, request.outputs, Model(request.importance), split, teacher_positions)
    loss = weighted_loss(request.objective, data)
    source = BatchSource(split, config.batch_size, request.seed, data["pad_id"], context.device)
    steps = steps_of(config, source.steps_per_epoch)
    chances = draw_chances(request, context, supernet)
    judges = read_split(context.store, data, "validation", config.evaluation_rows)
    contest = Contest(request, supernet.candidates, judges.labels, evaluations_in(context.checkpoint_folder))

    def step(batch: Batch, index: int) -> tuple[torch.Tensor, float]:
        before = targets.flops
        shares = sandwich(contest.live, config.sandwich, chances, request.seed, index)
        lessons = _lessons(shares, batch, source, targets.signal)
        total = sandwich_backward(supernet, lessons, loss, student_positions)
        forwards = sum(supernet.cost.flops(it.candidate.widths, *it.batch.input_ids.shape) for it in lessons)
        return total, STEP_FORWARDS * forwards + targets.flops - before

    def evaluate(_: int) -> dict[str, Any]:
        rows, predictions, flops = evaluate_candidates(supernet, contest.live, request, judges)
        rows, decided = contest.judge(rows, predictions)
        mean = float(np.mean([row["metric"] for row in rows]))
        return {"metric": mean, "flops": flops, "candidates": rows, "finished": decided}

    settings = LoopSettings(
        stage="once_for_all",
        total_steps=steps,
        seed=request.seed,
        optimiser=optimiser_settings(config),
        evaluate_at=even_steps(steps, config.evaluations, last=config.patience is not None),
        patience=config.patience,
        checkpoint_folder=context.checkpoint_folder,
        checkpoint_every_s=context.checkpoint_every_s,
        tokens=source.tokens(),
    )
    state = train(supernet.model, settings, source.batch, step, evaluate, context.progress)
    rows, predictions, flops = evaluate_candidates(supernet, contest.live, request, validation)
    context.progress({"step": state.step, "steps": steps, "candidates": rows})
    facts = {
        "candidates": described(supernet, request, rows, validation),
        "left_out": _left_out(supernet, rows, state.evaluations),
        "evaluations": _history(state.evaluations, rows),
        "steps": state.step,
        "planned_steps": steps,
        "saved_flops": max(0.0, planned_flops(supernet, request, chances, source, steps) - state.flops),
    }
    weights = supernet.weights
    blobs = weight_blobs(weights.config, weights.widths, weights.scale, supernet.model.state_dict())
    blobs["predictions.arrow"] = table_blob(prediction_table(predictions, validation.labels, "validation"))
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


@dataclass(frozen=True)
class Lesson:
    """What one candidate learns in a step: a batch, and the teacher's outputs on it."""

    candidate: Candidate
    batch: Batch
    wanted: Outputs


def _lessons(shares: Sequence[Share], batch: Batch, source: BatchSource, signal: TeacherSignal) -> list[Lesson]:
    """The lessons of a step; where all see the whole batch, its outputs are read once. No rows, no lesson."""
    if all(share.rows == slice(None) for share in shares):
        wanted = signal.outputs(batch)
        return [Lesson(share.candidate, batch, wanted) for share in shares]
    rows = [(share.candidate, batch.rows[share.rows]) for share in shares]
    parts = [(candidate, source.batch_of(own)) for candidate, own in rows if len(own)]
    return [Lesson(candidate, part, signal.outputs(part)) for candidate, part in parts]


def sandwich_backward(
    supernet: Supernet, lessons: Sequence[Lesson], loss: WeightedLoss, student_positions: tuple[int, ...]
) -> torch.Tensor:
    """Accumulate the gradients of the candidates' losses, each backward before the next forward.

    Returns:
        The sum of their losses, a detached scalar on the device.
    """
    losses = []
    for lesson in lessons:
        supernet.select(lesson.candidate)
        outputs = forward(supernet.model, lesson.batch, student_positions, supernet.precision)
        value = loss(outputs, lesson.wanted, lesson.batch)
        value.backward()
        losses.append(value.detach())
    return torch.stack(losses).sum()


def planned_flops(
    supernet: Supernet, request: OnceForAll, chances: Mapping[float, float], source: BatchSource, steps: int
) -> float:
    """FLOPs of training all candidates to the last step by the same rule, the teacher's apart."""
    total = 0.0
    for index in range(steps):
        lengths = source.lengths(index)
        for share in sandwich(supernet.candidates, request.config.sandwich, chances, request.seed, index):
            rows = lengths[share.rows]
            longest = int(rows.max(initial=0))
            total += STEP_FORWARDS * supernet.cost.flops(share.candidate.widths, len(rows), longest)
    return total


def _left_out(
    supernet: Supernet, rows: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Candidates that were not trained to the end, with the last that was known of them; None where nothing was."""
    finished = {row["scale"] for row in rows}
    last = {row["scale"]: (found["step"], row["metric"]) for found in evaluations for row in found["candidates"]}
    return [
        dict(zip(("scale", "step", "metric"), (scale, *last.get(scale, (None, None))), strict=True))
        for scale in (candidate.scale for candidate in supernet.candidates)
        if scale not in finished
    ]


def _history(evaluations: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each evaluation of each candidate; the last one's step is None."""
    history = [
        {"step": evaluation["step"], "split": "validation", **row}
        for evaluation in evaluations
        for row in evaluation["candidates"]
    ]
    return [*history, *({"step": None, "split": "validation", **row} for row in last)]
