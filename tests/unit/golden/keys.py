"""The keys of every stage of an experiment, without computing one: schedules are given made-up facts.

A schedule's path depends on what its stages find, so that stages which nobody computes have the facts and FLOPs below.
They are chosen so that two thirds of the teacher are worth most to λ = 0.2, and that FLOPs of different stages can be
told apart in the budget of a control.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from raydisc.config.experiment import Experiment
from raydisc.models.precision import Arithmetic
from raydisc.schedules.base import Trial
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import expand, steps_of
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import driven
from raydisc.stages.facts import TaskFacts
from raydisc.stages.problem import Subject, inspect, student_scales

FLOPS = {
    "importance": 1e6, "teacher_outputs": 1e7, "once_for_all": 1e9, "contest": 4e8, "finalist": 6e8, "distil": 1e8,
}  # fmt: skip


def requests_of_trials(experiment: Experiment, arithmetic: Arithmetic) -> Iterator[tuple[Trial, list[Stage]]]:
    """Each trial with all that it asks for, each once, in order; the tests of its teacher and its student last."""
    subject = inspect(experiment)
    for trial in expand(experiment, student_scales(experiment, subject)):
        asked: dict[str, tuple[Stage, Artifact]] = {}

        def execute(request: Stage, asked: dict[str, tuple[Stage, Artifact]] = asked) -> Artifact:
            promise = request.promise(arithmetic)
            cost = Cost(flops=FLOPS.get("contest" if is_contest(request) else request.kind, 0.0))
            artifact = replace(promise, facts=made_up_facts(request, subject), cost=cost)
            asked.setdefault(artifact.key, (request, artifact))
            return artifact

        outcome: Outcome = driven(steps_of(trial, experiment, subject), execute)
        made = {request.kind: artifact for request, artifact in reversed(asked.values())}
        execute(Evaluate(made["tokenise"], made["finetune"]))
        execute(Evaluate(made["tokenise"], outcome.student))
        yield trial, [request for request, _ in asked.values()]


def is_contest(request: Stage) -> bool:
    """Whether a stage is a supernet that is broken off for a choice."""
    return request.kind == "once_for_all" and "choose_at" in request.settings()["config"]


def made_up_facts(request: Stage, subject: Subject) -> dict[str, Any]:
    """Return the facts that a stage is assumed to find."""
    if request.kind == "tokenise":
        kind = {"span_f1": "tokens", "token_likelihood": "language"}.get(subject.metric, "classification")
        rows, tokens = ({"train": 1000 * factor, "validation": 100 * factor, "test": 100 * factor} for factor in (1, 9))
        facts = TaskFacts(kind, ["a", "b", "c"], 3, subject.metric, 32, ["text"], 0, 300, rows, tokens)
        return {**facts.to_json(), "tags": tokens}
    if request.kind == "once_for_all":
        scales = request.settings()["scales"]
        rows = [{"scale": scale, "metric": 1 - 0.3 * (1 - scale) ** 2, "reference": 1.0} for scale in scales]
        return {"candidates": rows, "outputs_flops": 0.0, "chosen_at": 2 if is_contest(request) else None}
    return {}


def keys_of_trials(experiment: Experiment, arithmetic: Arithmetic) -> dict[str, list[str]]:
    """Each trial's stages as ``KIND KEY``, by its name."""
    return {
        trial.name: [f"{request.kind} {request.key(arithmetic)}" for request in requests]
        for trial, requests in requests_of_trials(experiment, arithmetic)
    }
