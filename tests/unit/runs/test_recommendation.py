"""Recommendations: which trials are proposed, from results alone, and what the whole of them costs."""

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.forecast.devices import given_devices
from raydisc.forecast.plan import make_plan
from raydisc.report.costs import StageGraph
from raydisc.report.halving import Shown, survivors
from raydisc.runs.jobs import Jobs
from raydisc.runs.proposals import Planner, TrialResult
from raydisc.runs.recommendation import Ladder
from raydisc.runs.sources import Together, asked_of, begun
from raydisc.schedules.base import Trial
from raydisc.schedules.rungs import Rung, bracket
from raydisc.stages.problem import inspect
from raydisc.storage.folder import Storage
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE, run_trial, tiny_experiment

pytestmark = pytest.mark.integration

BUDGET = 4.0e8
ARMS = ["kd", "kd_lr_up", "kd_lr_down"]
SMALL = {"budget_flops": BUDGET, "first_steps": 3, "arms": ARMS}


def recommending(folder: str, **options: Any) -> Experiment:
    schedule = ScheduleConfig.model_validate({"recommend": {**SMALL, **options}})
    return tiny_experiment(schedules=[schedule], controls=False, storage=folder)


def ladder(folder: str, **options: Any) -> Any:
    experiment = recommending(folder, **options)
    [source] = begun(asked_of(experiment, inspect(experiment), [STUDENT_SCALE], Storage(Path(folder))))
    return source


@cache
def storage() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="raydisc-recommendation-")


@cache
def trials() -> list[Trial]:
    """The trials of all rungs of the small ladder."""
    return list(ladder(storage().name)._trials)


def replayed(metrics: dict[str, float | None], order: random.Random, known: dict[str, TrialResult]) -> list[str]:
    """Run a new source to its end, with results in some order; what is known is passed on at once, as when resumed."""
    source = Ladder(trials(), lambda found: [None] * len(found))
    proposed: list[str] = []
    waiting: list[Trial] = []
    while True:
        while (trial := source.next()) is not None:
            proposed.append(trial.name)
            waiting.append(trial)
        if not waiting:
            return proposed
        trial = next((it for it in waiting if it.name in known), waiting[order.randrange(len(waiting))])
        waiting.remove(trial)
        assert trial.rung
        metric = metrics[trial.rung.arm]
        state = "failed" if metric is None else "finished"
        known.setdefault(trial.name, TrialResult(state, metric))  # type: ignore[arg-type]
        source.tell(trial, known[trial.name])


def test_a_ladder_is_proposed_rung_by_rung() -> None:
    metrics = {"kd": 0.5, "kd_lr_up": 0.7, "kd_lr_down": 0.4}
    names = replayed(metrics, random.Random(0), {})
    assert names == [
        "recommend-kd-rung-1-to-0.25-seed-0", "recommend-kd_lr_up-rung-1-to-0.25-seed-0",
        "recommend-kd_lr_down-rung-1-to-0.25-seed-0", "recommend-kd-rung-2-to-0.25-seed-0",
        "recommend-kd_lr_up-rung-2-to-0.25-seed-0", "recommend-kd_lr_up-rung-3-to-0.25-seed-0",
    ]  # fmt: skip


def test_a_resumed_recommendation_proposes_the_same_at_every_moment() -> None:
    """Whatever was known when the driver died, and in whatever order trials end."""
    metrics: dict[str, float | None] = {"kd": 0.5, "kd_lr_up": 0.7, "kd_lr_down": 0.6}
    known: dict[str, TrialResult] = {}
    whole = replayed(metrics, random.Random(0), known)
    for seed in range(10):
        some = random.Random(seed)
        kept = {name: known[name] for name in whole[: some.randrange(len(whole))]}
        assert replayed(metrics, some, dict(kept)) == whole


def test_a_trial_that_failed_goes_no_further() -> None:
    names = replayed({"kd": None, "kd_lr_up": 0.1, "kd_lr_down": 0.2}, random.Random(0), {})
    assert [name for name in names if "-kd-" in name] == ["recommend-kd-rung-1-to-0.25-seed-0"]
    assert names[-1] == "recommend-kd_lr_down-rung-3-to-0.25-seed-0"
    assert len(replayed(dict.fromkeys(ARMS), random.Random(0), {})) == 3, "nothing is left to go on with"


def test_arms_that_cannot_be_told_apart_go_on_by_the_prior() -> None:
    draws = np.random.default_rng(0).normal(0.0, 0.02, (3, 100))
    shown = [Shown(arm, metric, draw) for arm, metric, draw in zip(ARMS, (0.70, 0.71, 0.60), draws, strict=True)]
    assert survivors(shown, 1) == ["kd"]
    assert survivors(shown, 3) == ["kd", "kd_lr_up", "kd_lr_down"]
    together = [Shown(it.arm, it.metric, draws[0]) for it in shown]
    assert survivors(together, 1) == ["kd_lr_up"], "they differ by as much on every resample"
    assert survivors([], 2) == []


def test_a_bracket_counts_each_stage_once_and_leaves_open_who_goes_on() -> None:
    first = [{"outputs": 5.0, "a-1": 1.0}, {"outputs": 5.0, "b-1": 1.0}]
    first_rung = {"a": [first[0]], "b": [first[1]]}
    second = {"a": [first[0] | {"a-2": 2.0}], "b": [first[1] | {"b-2": 3.0}]}
    assert bracket([(2, first_rung), (1, second)]) == (9.5, 9.0, 10.0)
    chosen = {"a": [{"x": 1.0, "p": 2.0}, {"x": 1.0, "q": 4.0}]}
    assert bracket([(1, chosen)]) == (4.0, 3.0, 5.0), "a choice may fall two ways"


def test_the_whole_costs_what_is_planned_and_no_more_than_the_budget() -> None:
    """Every trial is run, in this process; the bill is that of the ledger."""
    folder = storage().name
    experiment = recommending(folder)
    plan = make_plan(experiment, given_devices(1, "80GiB"))
    [row] = [row for row in plan["schedules"] if row["schedule"] == "recommend"]
    assert row["trials"] == 3 + 2 + 1
    source = Ladder(trials(), lambda found: [None] * len(found))
    rows: dict[str, Any] = {}
    ran = []
    while (trial := source.next()) is not None:
        waiting = [trial, *iter(source.next, None)]
        for one in waiting:
            ran.append(run_trial(experiment, one, Path(folder)))
            found = ran[-1].outcome.student
            source.tell(one, TrialResult("finished", found["evaluations"][-1]["metric"]))
            rows |= {
                artifact.key: {
                    "key": artifact.key, "kind": stage.kind, "state": "finished", "inputs": artifact.inputs,
                    "flops": artifact.flops, "device_seconds": 0.0, "wall_seconds": 0.0, "cpu_seconds": 0.0,
                }
                for stage, artifact in ran[-1].stages
            }  # fmt: skip
    assert len(ran) == 6
    cost = StageGraph(rows.values()).search_cost([it.outcome.student.key for it in ran]).flops
    assert cost == row["flops"]["low"] == row["flops"]["high"], "arms that begin at once cost the same, whoever goes on"
    assert 0.95 * BUDGET < cost <= BUDGET
    parts = [artifact["steps"] for stage, artifact in ran[-1].stages if stage.kind == "distil"]
    assert len(parts) == 3
    assert ran[-1].computed == 1, "it goes on from its checkpoint"


def test_arms_with_stages_of_their_own_begin_where_these_are_at_most_half() -> None:
    arms = ["kd", "kd_lr_up", "kd_lr_down", "kd_from_assistant", "minidisc", "takd"]
    found = ladder(storage().name, budget_flops=4.0e9, arms=arms)
    begins = {it.rung.arm: it.rung.number for it in found._trials if len(it.rung.shares) == 1}
    assert begins == {"kd": 1, "kd_lr_up": 1, "kd_lr_down": 1, "kd_from_assistant": 1, "minidisc": 2, "takd": 2}
    by_name = {it.name: it for it in found._trials}
    source, proposed = Ladder(found._trials, lambda trials: [None] * len(trials)), []
    while (trial := source.next()) is not None:
        for one in [trial, *iter(source.next, None)]:
            proposed.append(one.name.removesuffix("-to-0.25-seed-0"))
            assert by_name[one.name].rung
            source.tell(one, TrialResult("finished", 0.9 if by_name[one.name].rung.arm == "takd" else 0.5))
    assert proposed == [
        *(f"recommend-{arm}-rung-1" for arm in arms[:4]), "recommend-kd-rung-2", "recommend-minidisc-rung-2",
        "recommend-takd-rung-2", "recommend-kd-rung-3", "recommend-takd-rung-3", "recommend-takd-rung-4",
    ]  # fmt: skip


def test_a_budget_too_small_for_two_arms_is_that_of_kd() -> None:
    [alone] = ladder(storage().name, first_steps=30)._trials
    assert alone.name == "recommend-kd-to-0.25-seed-0"
    assert alone.rung == Rung("kd", BUDGET, BUDGET)
    assert alone.leaves_student
    [named] = ladder(storage().name, arms=["kd_lr_up"])._trials
    assert named.rung == Rung("kd_lr_up", BUDGET, BUDGET)


def test_students_of_earlier_rungs_are_not_tested() -> None:
    experiment = recommending(storage().name)
    jobs = Jobs(experiment, inspect(experiment), ONE_THREAD, lambda key: None)
    planner = Planner(Together([Ladder(trials(), lambda found: [None] * len(found))]))
    planner.begin(jobs)
    while new := planner.more():
        for job in new:
            planner.ended(job, TrialResult("finished", 0.5))
    tests = [job.name for job in jobs.planned if job.test]
    assert tests == ["test-of-recommend-kd-rung-3-to-0.25-seed-0", "test-of-teacher"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget_flops": 1e6}, r"budget_flops of recommend is 1e\+06, but one step of KD with all that comes before"),
        ({"arms": ["kd_predictions"]}, "none of the arms of recommend fits the experiment; name others, such as kd"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    experiment = recommending(storage().name, **options)
    if "arms" in options:
        losses = {"soft_cross_entropy": 1.0}
        distillation = experiment.distillation.model_copy(update={"losses": losses})
        experiment = experiment.model_copy(update={"distillation": distillation})
    with pytest.raises(InputError, match=message):
        asked_of(experiment, inspect(experiment), [STUDENT_SCALE], Storage(Path(storage().name)))


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="should be different arms out of 'kd', .*, but 'minidisk' is not one"):
        ScheduleConfig.model_validate({"recommend": {"budget_flops": 1e9, "arms": ["kd", "minidisk"]}})
