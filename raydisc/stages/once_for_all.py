"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raydisc.distillation.checkpoint import TrainingState
from raydisc.distillation.dropout import set_dropout
from raydisc.distillation.loop import LoopSettings, even_steps, train
from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.sandwich import Share, even_rows, sandwich
from raydisc.distillation.teacher_outputs import TeacherSignal
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.outputs import Outputs, forward
from raydisc.models.widths import Widths
from raydisc.parallel.shard import backwards
from raydisc.settings import OnceForAllConfig
from raydisc.stages.batches import BatchSource, optimiser_settings, steps_of
from raydisc.stages.contest import Contest
from raydisc.stages.context import Context, Result, prediction_table, read_split, table_blob, weight_blobs
from raydisc.stages.requests import Model, OnceForAll
from raydisc.stages.supernet import Supernet, build_supernet, described, draw_chances, evaluate_candidates
from raydisc.stages.targets import positions, targets_of, weighted_loss
from raydisc.supernet.grid import Candidate
from raydisc.tasks.tokenised import Batch


def compute_once_for_all(request: OnceForAll, context: Context) -> Result:
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
    targets = targets_of(context, request.outputs, Model(request.importance), split, teacher_positions)
    loss = weighted_loss(request.objective, data)
    source = BatchSource(split, config.batch_size, request.seed, data["pad_id"], context.device, place=context.place)
    steps = steps_of(config, source.steps_per_epoch)
    chances = draw_chances(request, context, supernet)
    contest = Contest(supernet.candidates, request.lam, _choice_step(request, steps), context)
    fractions = _fractions(supernet, round(float(split.lengths.mean())), targets.meter is not None)

    def step(batch: Batch, index: int) -> tuple[torch.Tensor, float]:
        before = targets.flops
        if (chosen := contest.chosen(index)) is None:
            shares = sandwich(supernet.candidates, config.sandwich, chances, request.seed, index)
        else:
            shares = [Share(chosen, even_rows(batch.mean_rows, fractions[chosen.scale]))]
        lessons = _lessons(shares, batch, source.rows(index), source, targets.signal)
        total = sandwich_backward(supernet, lessons, loss, student_positions)
        forwards = sum(supernet.cost.flops(it.candidate.widths, *it.batch.shape) for it in lessons)
        return total, STEP_FORWARDS * forwards + targets.flops - before

    def evaluate(index: int) -> dict[str, Any]:
        rows, predictions, flops = evaluate_candidates(supernet, supernet.candidates, request, judges)
        if index == contest.chooses_at:
            contest.choose(rows, prediction_table(predictions, judges.labels, "validation"))
        mean = float(np.mean([row["metric"] for row in rows]))
        return {"metric": mean, "flops": flops, "candidates": rows}

    settings = LoopSettings(
        stage="once_for_all",
        total_steps=steps,
        seed=request.seed,
        optimiser=optimiser_settings(config),
        evaluate_at=_evaluation_steps(config, contest.chooses_at, steps),
        patience=config.patience,
        checkpoint_folder=context.checkpoint_folder,
        checkpoint_every_s=context.checkpoint_every_s,
        tokens=source.tokens(),
    )
    if contest.rows:  # of an earlier process, which may have told nobody
        context.progress({"step": 0, "steps": steps, "candidates": contest.rows})
    state = train(supernet.model, settings, source.batch, step, evaluate, context.progress, context.place)
    return _result(request, context, supernet, contest, state, steps)


def _result(
    request: OnceForAll, context: Context, supernet: Supernet, contest: Contest, state: TrainingState, steps: int
) -> Result:
    """What is left behind: the weights, the candidates as the choice saw them, and the last metric of those trained."""
    validation = judges = read_split(context.store, request.data, "validation")
    chosen = contest.chosen(state.step)
    finalists = supernet.candidates if chosen is None else (chosen,)
    rows, predictions, flops = evaluate_candidates(supernet, finalists, request, validation)
    history = _history(state.evaluations, rows)
    weights = supernet.weights
    blobs = weight_blobs(weights.config, weights.widths, weights.scale, supernet.model.state_dict(), context.place)
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


def _choice_step(request: OnceForAll, steps: int) -> int | None:
    """The step after which the assistant is chosen; None where all candidates are trained to the end."""
    if request.lam is None:
        return None
    step = max(1, round(request.config.choose_at * steps))
    return step if step < steps else None


def _evaluation_steps(config: OnceForAllConfig, chooses_at: int | None, steps: int) -> frozenset[int]:
    if chooses_at is not None:
        return even_steps(chooses_at, config.evaluations, last=True)
    return even_steps(steps, config.evaluations, last=config.patience is not None)


def _fractions(supernet: Supernet, length: int, teacher_is_run: bool) -> dict[float, float]:
    """For each assistant's scale the share of a batch with which its step costs what the smallest one's does."""
    cost = supernet.cost
    teacher = cost.flops(Widths.full(supernet.weights.config), 1, length) if teacher_is_run else 0
    row = {it.scale: STEP_FORWARDS * cost.flops(it.widths, 1, length) + teacher for it in supernet.candidates[:-1]}
    return {scale: min(row.values()) / flops for scale, flops in row.items()}


@dataclass(frozen=True)
class Lesson:
    """What one candidate learns in a step: a batch, and the teacher's outputs on it."""

    candidate: Candidate
    batch: Batch
    wanted: Outputs


def _lessons(
    shares: Sequence[Share], batch: Batch, rows: np.ndarray, source: BatchSource, signal: TeacherSignal
) -> list[Lesson]:
    """The lessons of a step; where all see the whole batch, its outputs are read once. No rows, no lesson.

    Args:
        shares: whom the step trains on what.
        batch: the worker's share of the step's.
        rows: of the batch of all workers.
        source: of batches.
        signal: the teacher's.
    """
    if all(share.whole for share in shares):
        wanted = signal.outputs(batch)
        return [Lesson(share.candidate, batch, wanted) for share in shares]
    taught = [(share.candidate, rows[share.rows]) for share in shares]
    parts = [(candidate, source.batch_of(own)) for candidate, own in taught if len(own)]
    return [Lesson(candidate, part, signal.outputs(part)) for candidate, part in parts]


def sandwich_backward(
    supernet: Supernet, lessons: Sequence[Lesson], loss: WeightedLoss, student_positions: tuple[int, ...]
) -> torch.Tensor:
    """Accumulate the gradients of the candidates' losses, each backward before the next forward.

    Returns:
        The sum of their losses, or the worker's part of it, a detached scalar on the device.
    """
    losses = []
    for lesson in backwards(supernet.model, lessons, supernet.place.once):
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
