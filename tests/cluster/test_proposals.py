"""Trials that are proposed while a run goes on, and trials that a scheduler of Tune stops, also after a kill."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from desk import Desk, student_hashes
from ray.tune.schedulers import ASHAScheduler

from raydisc.report.ledger import Ledger
from raydisc.report.runs import read_state

pytestmark = pytest.mark.cluster

TRIALS = """
import json, os, signal, sys
import raydisc
from raydisc.config.experiment import load_experiment
from raydisc.runs.proposals import Grid
from raydisc.schedules.base import Trial
from raydisc.schedules.kd import Kd, KdOptions
from raydisc.schedules.maxidisc import Maxidisc, MaxidiscOptions

kill_after = int(sys.argv[1])

class Killing:
    # Passes results on; ends the driver as the machine's kernel would after that number of them.
    def __init__(self, proposals):
        self.proposals, self.told = proposals, []

    def next(self):
        return self.proposals.next()

    def tell(self, trial, result):
        self.told.append((trial.name, result.state, result.metric))
        self.proposals.tell(trial, result)
        if len(self.told) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
"""

CLIMBING = (
    TRIALS
    + """
class Climbing:
    # Two paths, then the better one with two other learning rates.
    def __init__(self):
        self.waiting = [Trial(Maxidisc(MaxidiscOptions()), 0.25, 0, (scale,)) for scale in (0.8, 0.5)]
        self.results = {}

    def next(self):
        return self.waiting.pop(0) if self.waiting else None

    def tell(self, trial, result):
        self.results[trial] = result.metric
        if len(self.results) == 2:
            best = max(self.results, key=lambda trial: (self.results[trial], trial.path))
            self.waiting = [best.with_settings({"distillation.lr": lr}) for lr in (3e-3, 1e-4)]

experiment = load_experiment("tiny.yaml", ["controls=false", "resources.trials=2"])
proposals = Killing(Climbing())
result = raydisc.run(experiment, proposals=proposals)
print(json.dumps({"told": proposals.told, "failures": result.failures, "following": result.following}))
"""
)

STOPPING = (
    TRIALS
    + """
from ray.tune.schedulers import ASHAScheduler

settings = ["resources.trials=1", "distillation.epochs=4", "distillation.patience=100"]
experiment = load_experiment("tiny.yaml", settings)
kd = Trial(Kd(KdOptions()), 0.25, 0)
proposals = Killing(Grid([kd.with_settings({"distillation.lr": lr}) for lr in (3e-3, 1e-8, 2e-8)]))
result = raydisc.run(experiment, proposals=proposals, trial_scheduler=ASHAScheduler(reduction_factor=2))
print(json.dumps({"told": proposals.told, "failures": result.failures, "following": result.following}))
"""
)

ENDLESS = (
    TRIALS
    + """
class Endless:
    seed = 0

    def next(self):
        self.seed += 1
        return Trial(Kd(KdOptions()), 0.25, self.seed)

    def tell(self, trial, result):
        pass

experiment = load_experiment("tiny.yaml", ["controls=false", "budget.trials=2"])
proposals = Killing(Endless())
result = raydisc.run(experiment, proposals=proposals)
print(json.dumps({"told": proposals.told, "failures": result.failures, "following": result.following}))
"""
)


def ran(desk: Desk, script: str, kill_after: int = 0) -> dict[str, Any]:
    """Run a script to its end; or to where it kills itself, and then again to its end."""
    environment = {**os.environ, "HOME": str(desk.folder)}
    for left in [kill_after, 0] if kill_after else [0]:
        done = subprocess.run(
            [sys.executable, "-c", script, str(left)],
            cwd=desk.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == (-signal.SIGKILL if left else 0), done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def stages_of(desk: Desk, state: str) -> list[dict[str, Any]]:
    return Ledger(desk.folder / "runs" / "ledger").rows("stages", latest=False, state=state)


def trials_of(desk: Desk) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in Ledger(desk.folder / "runs" / "ledger").rows("trials")}


def test_trials_are_added_after_results_and_again_after_a_kill(desk: Desk, finished: Desk) -> None:
    found = ran(desk, CLIMBING, kill_after=3)
    told = {name: metric for name, state, metric in found["told"] if state == "finished"}
    assert (found["failures"], found["following"]) == ([], [])
    paths = [f"maxidisc-via-{scale}-to-0.25-seed-0" for scale in (0.8, 0.5)]
    best = max(paths, key=lambda name: (told[name], name))
    prefix = best.removesuffix("-to-0.25-seed-0")
    tuned = [f"{prefix}-distillation.lr-{lr}-to-0.25-seed-0" for lr in ("0.003", "0.0001")]
    assert sorted(told) == sorted([*paths, *tuned])
    assert {state for _, state, _ in found["told"]} == {"finished"}

    trials = trials_of(desk)
    assert sorted(trials) == sorted(told)
    assert all(trial["state"] == "finished" and trial["test"] for trial in trials.values()), "tested after all choices"
    assert {name: trial["validation_metric"] for name, trial in trials.items()} == told
    rates = {
        name: {json.loads(stage["settings"])["config"]["lr"] for stage in stages_of(desk, "finished")
               if stage["kind"] == "distil" and stage["key"] in trial["stages"]}
        for name, trial in trials.items()
    }  # fmt: skip
    said = desk.ask("resume", "tiny", code=2)
    assert "the trials of the run 'tiny' are proposed by a source in Python" in said
    assert "`raydisc.run(experiment, proposals=...)`" in said
    assert len(trials_of(desk)) == len(trials), "none of the file's own trials was run"
    assert rates == {paths[0]: {0.001}, paths[1]: {0.001}, tuned[0]: {0.003}, tuned[1]: {0.0001}}
    keys = [stage["key"] for stage in stages_of(desk, "finished")]
    assert len(set(keys)) == len(keys), "computed once"

    # what a killed search finds is compared with an undisturbed one as a whole in `test_searches.py`
    students, undisturbed = student_hashes(desk), student_hashes(finished)
    assert {name: students[name] for name in paths} == {name: undisturbed[name] for name in paths}
    assert len({*students.values()}) == 4


def test_a_budget_of_trials_ends_a_source_that_never_does(desk: Desk) -> None:
    found = ran(desk, ENDLESS)
    names = ["kd-to-0.25-seed-1", "kd-to-0.25-seed-2"]
    assert sorted(name for name, _, _ in found["told"]) == names
    assert (found["failures"], found["following"]) == ([], [])
    assert {name: bool(trial["test"]) for name, trial in trials_of(desk).items()} == dict.fromkeys(names, True)
    assert "finished" in desk.ask("ls")


def test_a_scheduler_stops_trials_which_stay_stopped_after_a_kill(desk: Desk) -> None:
    found = ran(desk, STOPPING, kill_after=2)
    names = [f"kd-distillation.lr-{lr}-to-0.25-seed-0" for lr in ("0.003", "1e-08", "2e-08")]
    told = {name: (state, metric) for name, state, metric in found["told"]}
    assert list(told) == names
    assert [told[name][0] for name in names] == ["finished", "stopped early", "stopped early"]
    assert (found["failures"], found["following"]) == ([], [])

    trials = trials_of(desk)
    assert {name: (trial["state"], trial["validation_metric"]) for name, trial in trials.items()} == told
    assert [bool(trials[name]["student"]) for name in names] == [True, False, False]
    assert [bool(trials[name]["test"]) for name in names] == [True, False, False]
    assert "stopped at step" in trials[names[1]]["message"]
    # of the trial that was stopped before the kill nothing is computed after it
    assert all(stage["flops"] > 0 for stage in stages_of(desk, "stopped")), "those until it was stopped"
    stopped = [stage["trial"] for stage in stages_of(desk, "stopped")]
    assert sorted(stopped) == sorted(names[1:])
    assert len([stage for stage in stages_of(desk, "finished") if stage["kind"] == "distil"]) == 1

    state = read_state(desk.folder / "runs" / "tiny")
    assert state is not None
    assert (state.proposals, state.trial_scheduler) == (True, ASHAScheduler.__name__)

    # and so it stays on the command line, which has no scheduler: the file's own trials are others
    [row] = json.loads(desk.ask("compare", "tiny", "--json"))
    assert (row["schedule"], row["selected"]) == ("kd", True)
    shown = json.loads(desk.ask("show", "tiny", "--json"))
    assert {trial["trial"]: trial["state"] for trial in shown["trials"]} == {n: told[n][0] for n in names}
