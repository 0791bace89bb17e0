"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raydisc.losses.objective import WeightedLoss
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.forward import Outputs, forward
from raydisc.models.task_heads import weights_of
from raydisc.parallel.shard import backwards
from raydisc.signals.source import TeacherSignal
from raydisc.stages.artifact import Model
from raydisc.stages.context import Context, Result
from raydisc.stages.files import prediction_table, read_split, table_blob, weight_blobs
from raydisc.stages.once_for_all.model import Supernet, build_supernet, described, evaluate_candidates
from raydisc.stages.once_for_all.plan import course_of
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.once_for_all.selection import Contest
from raydisc.stages.targets import positions, targets_of, tokens_named, weighted_loss
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import Share
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.loop import train
from raydisc.training.micro_batches import micro_batches_of


def compute_once_for_all(request: OnceForAllRequest, context: Context) -> Result:
    """Train by the sandwich rule and evaluate the candidates (arXiv 2205.14570, section 3.3).

    Where the assistant is chosen before the end, it alone is trained from there on. A larger one sees fewer rows of a
    batch, so that a step costs what it costs with the smallest, whichever is chosen.
    """
    config, data = request.config, request.data
    supernet = build_supernet(request, context)
    set_dropout(supernet.model, config.dropout)
    split = read_split(context.store, data, "train")
    judges = read_split(context.store, data, "validation", config.evaluation_rows)
    student_positions, teacher_positions = positions(request.objective, len(supernet.cost.layers))
    named = tokens_named(data, request.objective.top_tokens)
    targets = targets_of(context, request.outputs, Model(request.importance), split, teacher_positions, named)
    loss = weighted_loss(request.objective, data)
    source = BatchSource(split, config.batch_size, request.seed, data["pad_id"], context.device, rank=context.rank)
    course = course_of(request, context.store, supernet.candidates, supernet.cost)
    contest = Contest(supernet.candidates, request.lam, course.chooses_at, context)

    def step(batch: Batch, index: int) -> tuple[torch.Tensor, float]:
        before = targets.flops
        shares = course.shares(index, contest.chosen(index), batch.shape[0])
        lessons = _lessons(shares, batch, source.rows(index), source, targets.signal, context.execution.micro_batches)
        total = sandwich_backward(supernet, lessons, loss, student_positions)
        forwards = sum(supernet.cost.flops(it.candidate.widths, *it.batch.shape) for it in lessons)
        return total, (STEP_FORWARDS * forwards + targets.flops - before) / context.execution.micro_batches

    def evaluate(index: int) -> dict[str, Any]:
        rows, predictions, flops = evaluate_candidates(supernet, supernet.candidates, request, judges, context)
        if index == contest.chooses_at:
            contest.choose(rows, prediction_table(predictions, judges.labels, "validation"))
        mean = float(np.mean([row["metric"] for row in rows]))
        return {"metric": mean, "flops": flops, "candidates": rows}

    settings = context.loop("once_for_all", config, source, course.steps, course.evaluate_at, config.patience)
    if contest.rows:  # of an earlier process, which may have told nobody
        context.progress({"step": 0, "steps": course.steps, "candidates": contest.rows})
    state = train(supernet.model, settings, source.batch, step, evaluate, context.progress, context.rank)
    return _result(request, context, supernet, contest, state, course.steps)


def _result(
    request: OnceForAllRequest, context: Context, supernet: Supernet, contest: Contest, state: TrainingState, steps: int
) -> Result:
    """What is left behind: the weights, the candidates as the choice saw them, and the last metric of those trained."""
    validation = judges = read_split(context.store, request.data, "validation")
    chosen = contest.chosen(state.step)
    finalists = supernet.candidates if chosen is None else (chosen,)
    rows, predictions, flops = evaluate_candidates(supernet, finalists, request, validation, context)
    history = _history(state.evaluations, rows)
    weights = supernet.weights
    blobs = weight_blobs(weights.config, weights.widths, weights.scale, weights_of(supernet.model), context.rank)
    if chosen is None:
        context.progress({"step": state.step, "steps": steps, "candidates": rows})
        blobs["predictions.arrow"] = table_blob(prediction_table(predictions, validation.labels, "validation"))
    else:
        judges = read_split(context.store, request.data, "validation", request.config.evaluation_rows)
        rows = contest.rows
        blobs["predictions.arrow"] = contest.predictions
    facts = {
        "candidates": described(supernet, request, rows, judges),
        "evaluations": history,
        "steps": state.step,
        "planned_steps": steps,
        "chosen_at": contest.chooses_at,
        "outputs_flops": request.outputs.flops if request.outputs else 0.0,
    }
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


@dataclass(frozen=True)
class Lesson:
    """What one candidate learns in a step: a batch, and the teacher's outputs on it."""

    candidate: Candidate
    batch: Batch
    wanted: Outputs


def _lessons(
    shares: Sequence[Share],
    batch: Batch,
    rows: np.ndarray,
    source: BatchSource,
    signal: TeacherSignal,
    micro_batches: int,
) -> list[Lesson]:
    """The lessons of a step; where all see the whole batch, its outputs are read once. No rows, no lesson.

    Args:
        shares: whom the step trains on what.
        batch: the worker's share of the step's.
        rows: of the batch of all workers.
        source: of batches.
        signal: the teacher's.
        micro_batches: into how many lessons each is cut.
    """
    if all(share.whole for share in shares):
        parts = [(part, signal.outputs(part)) for part in micro_batches_of(batch, micro_batches)]
        return [Lesson(share.candidate, part, wanted) for share in shares for part, wanted in parts]
    taught = [(share.candidate, rows[share.rows]) for share in shares]
    batches = [(candidate, source.batch_of(own)) for candidate, own in taught if len(own)]
    return [
        Lesson(candidate, part, signal.outputs(part))
        for candidate, own in batches
        for part in micro_batches_of(own, micro_batches)
    ]


def sandwich_backward(
    supernet: Supernet, lessons: Sequence[Lesson], loss: WeightedLoss, student_positions: tuple[int, ...]
) -> torch.Tensor:
    """Accumulate the gradients of the candidates' losses, each backward before the next forward.

    Returns:
        The sum of their losses, or the worker's part of it, a detached scalar on the device.
    """
    losses = []
    for lesson in backwards(supernet.model, lessons, supernet.rank.layout.once):
        supernet.select(lesson.candidate)
        outputs = forward(supernet.model, lesson.batch, student_positions, supernet.precision)
        value = loss(outputs, lesson.wanted, lesson.batch)
        value.backward()
        losses.append(value.detach())
    return torch.stack(losses).sum()


def _history(evaluations: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each evaluation of each candidate; the last one's step is None."""
    history = [
        {"step": evaluation["step"], "split": "validation", **row}
        for evaluation in evaluations
        for row in evaluation["candidates"]
    ]
    return [*history, *({"step": None, "split": "validation", **row} for row in last)]
