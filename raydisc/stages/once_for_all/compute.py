"""The computation of a supernet: all candidates trained side by side, and the chosen one alone from there on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from raydisc.models.task_heads import weights_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.broken_off import state_blobs, state_left_by
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import OnceForAllFacts
from raydisc.stages.files import prediction_table, read_split, table_blob, weight_blobs
from raydisc.stages.once_for_all.model import Supernet, build_supernet, described, evaluate_candidates
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.once_for_all.training import OnceForAllTraining, continued, training_of
from raydisc.stages.store import Blob
from raydisc.stages.training import Known
from raydisc.tradeoff import tradeoff
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.loop import Evaluate, no_evaluation
from raydisc.training.progress import Evaluation, Ranked, ScoredCandidate


def compute_once_for_all(request: OnceForAllRequest, context: Context) -> Result:
    """Train by the sandwich rule and evaluate the candidates (arXiv 2205.14570, section 3.3).

    Where the training is broken off for a choice, what its next step depends on is left beside the weights.
    """
    supernet, training = _begin(request, context)
    judges = read_split(context.store, request.data, "validation", request.config.evaluation_rows)

    def evaluate(step: int) -> tuple[Evaluation, float]:
        scored, _, flops = evaluate_candidates(supernet, supernet.candidates, request, judges, context)
        return Evaluation(step, _decisive(request, scored), candidates=tuple(scored)), flops

    state = _trained(supernet, training, context, evaluate)
    broken_off = training.ends_at is not None
    if not broken_off:
        judges = read_split(context.store, request.data, "validation")
    scored, predictions, flops = evaluate_candidates(supernet, supernet.candidates, request, judges, context)
    steps = training.own_steps.stop
    context.progress(Ranked(tuple(scored), state.step, steps))
    facts = {
        "candidates": described(supernet, request, scored, judges),
        "evaluations": _history(state.evaluations, scored),
        "steps": state.step,
        "planned_steps": steps,
        "chosen_at": training.ends_at,
        "outputs_flops": request.outputs.flops if request.outputs else 0.0,
        **({"whole_table": state.whole_table} if broken_off else {}),
    }
    blobs = _weights(supernet)
    blobs["predictions.arrow"] = table_blob(prediction_table(predictions, judges.labels, "validation"))
    if broken_off:
        blobs |= state_blobs(state, context.rank)
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


def compute_finalist(request: OnceForAllRequest, contest: Artifact, scale: float, context: Context) -> Result:
    """Train a candidate alone, from where the contest of all candidates was broken off, and evaluate it.

    A larger one sees fewer rows of a batch, so that a step costs what it costs with the smallest, whichever is chosen.

    Args:
        request: The supernet as it was asked for.
        contest: Its artifact.
        scale: The candidate's scale.
        context: The context of the stage.
    """
    supernet, whole = _begin(request, context)
    chosen = next(candidate for candidate in supernet.candidates if candidate.scale == scale)
    training = continued(whole, chosen)
    found = OnceForAllFacts.of(contest)
    left = state_left_by(contest, found.steps, found.whole_table, context.store)
    state = _trained(supernet, training, context, no_evaluation, left)
    validation = read_split(context.store, request.data, "validation")
    scored, predictions, flops = evaluate_candidates(supernet, [chosen], request, validation, context)
    facts = {
        "scale": scale,
        "candidates": described(supernet, request, scored, validation),
        "evaluations": _history([], scored),
        "steps": state.step - training.begins_at,
        "outputs_flops": contest["outputs_flops"],
        "contest_flops": contest.flops,
    }
    blobs = _weights(supernet)
    blobs["predictions.arrow"] = table_blob(prediction_table(predictions, validation.labels, "validation"))
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


def _begin(request: OnceForAllRequest, context: Context) -> tuple[Supernet, OnceForAllTraining]:
    """Return the supernet as it is before the first step, and its training."""
    supernet = build_supernet(request, context)
    set_dropout(supernet.model, request.config.dropout)
    known = Known(supernet.config, supernet.cost, context.store, context.device, context.rank)
    return supernet, training_of(request, known, supernet.candidates)


def _trained(
    supernet: Supernet,
    training: OnceForAllTraining,
    context: Context,
    evaluate: Evaluate,
    begun: TrainingState | None = None,
) -> TrainingState:
    assert training.towards is not None
    targets = training.towards.targets(context, training.source)
    return training.run(supernet.model, context, evaluate, targets, begun)


def _weights(supernet: Supernet) -> dict[str, Blob]:
    """Return the files of the supernet's weights, which are as wide as its largest candidate."""
    largest = supernet.candidates[0]
    state = weights_of(supernet.model)
    return weight_blobs(supernet.config, largest.structure, largest.scale, state, supernet.rank)


def _decisive(request: OnceForAllRequest, scored: Sequence[ScoredCandidate]) -> float:
    """Return the number that decides which evaluation is the best.

    Where the best weights are kept, it is the best tradeoff of a possible assistant, or, where no λ is given and the
    supernet is there for the student, the student's own metric. Otherwise it is the mean metric.
    """
    if request.config.keep == "last":
        return float(np.mean([candidate.metric for candidate in scored]))
    *assistants, student = scored
    if request.lam is None:
        return student.metric
    return max(tradeoff(it.metric, it.size, request.lam, it.reference) for it in assistants)


def _history(evaluations: Sequence[Evaluation], last: Sequence[ScoredCandidate]) -> list[dict[str, Any]]:
    """Return a row for each evaluation of each candidate; the step of the last ones is None."""
    found = [(evaluation.step, candidate) for evaluation in evaluations for candidate in evaluation.candidates]
    return [
        {"step": step, "split": "validation", **asdict(candidate)}
        for step, candidate in [*found, *((None, candidate) for candidate in last)]
    ]
