"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from raydisc.models.task_heads import weights_of
from raydisc.stages.context import Context, Result
from raydisc.stages.files import prediction_table, read_split, table_blob, weight_blobs
from raydisc.stages.once_for_all.model import Supernet, build_supernet, described, evaluate_candidates
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.once_for_all.selection import Selection
from raydisc.stages.once_for_all.training import training_of
from raydisc.stages.training import Known
from raydisc.tradeoff import tradeoff
from raydisc.training.checkpoint import TrainingState
from raydisc.training.dropout import set_dropout
from raydisc.training.progress import Evaluation, Ranked, ScoredCandidate


def compute_once_for_all(request: OnceForAllRequest, context: Context) -> Result:
    """Train by the sandwich rule and evaluate the candidates (arXiv 2205.14570, section 3.3).

    Where the assistant is chosen before the end, it alone is trained from there on. A larger one sees fewer rows of a
    batch, so that a step costs what it costs with the smallest, whichever is chosen.
    """
    config, data = request.config, request.data
    supernet = build_supernet(request, context)
    set_dropout(supernet.model, config.dropout)
    known = Known(supernet.config, supernet.cost, context.store, context.device, context.rank)
    training = training_of(request, known, supernet.candidates)
    selection = Selection(supernet.candidates, request.lam, training.chooses_at, context)
    training = replace(training, chosen=selection.chosen)
    judges = read_split(context.store, data, "validation", config.evaluation_rows)

    def evaluate(step: int) -> tuple[Evaluation, float]:
        scored, predictions, flops = evaluate_candidates(supernet, supernet.candidates, request, judges, context)
        if step == selection.chooses_at:
            selection.choose(scored, prediction_table(predictions, judges.labels, "validation"))
        return Evaluation(step, _decisive(request, scored), candidates=tuple(scored)), flops

    if selection.scored:  # of an earlier process, which may not have reported them
        context.progress(Ranked(selection.scored, 0, training.steps))
    assert training.towards is not None
    state = training.run(supernet.model, context, evaluate, training.towards.targets(context, training.source))
    return _result(request, context, supernet, selection, state, training.steps)


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


def _result(
    request: OnceForAllRequest,
    context: Context,
    supernet: Supernet,
    selection: Selection,
    state: TrainingState,
    steps: int,
) -> Result:
    """Return the weights, the candidates as the choice saw them, and the last metric of those that were trained."""
    validation = read_split(context.store, request.data, "validation")
    chosen = selection.chosen(state.step)
    finalists = supernet.candidates if chosen is None else (chosen,)
    scored, predictions, flops = evaluate_candidates(supernet, finalists, request, validation, context)
    history = _history(state.evaluations, scored)
    largest, weights = supernet.candidates[0], weights_of(supernet.model)
    blobs = weight_blobs(supernet.config, largest.structure, largest.scale, weights, context.rank)
    if chosen is None:
        judges = validation
        context.progress(Ranked(tuple(scored), state.step, steps))
        blobs["predictions.arrow"] = table_blob(prediction_table(predictions, validation.labels, "validation"))
    else:
        judges = read_split(context.store, request.data, "validation", request.config.evaluation_rows)
        scored = list(selection.scored)
        blobs["predictions.arrow"] = selection.write_predictions
    facts = {
        "candidates": described(supernet, request, scored, judges),
        "evaluations": history,
        "steps": state.step,
        "planned_steps": steps,
        "chosen_at": selection.chooses_at,
        "outputs_flops": request.outputs.flops if request.outputs else 0.0,
    }
    return Result(facts, state.flops + flops, blobs, state.wall_before, state.cpu_before)


def _history(evaluations: Sequence[Evaluation], last: Sequence[ScoredCandidate]) -> list[dict[str, Any]]:
    """Return a row for each evaluation of each candidate; the step of the last ones is None."""
    found = [(evaluation.step, candidate) for evaluation in evaluations for candidate in evaluation.candidates]
    return [
        {"step": step, "split": "validation", **asdict(candidate)}
        for step, candidate in [*found, *((None, candidate) for candidate in last)]
    ]
