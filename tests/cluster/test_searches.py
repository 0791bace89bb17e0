"""Searches that an experiment file names: run, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from desk import EXPERIMENT, Desk, make_desk, student_hashes
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster

SEARCH = """
schedules:
  - optuna:
      trials: 4
      at_once: 2
      space:
        path: {choices: [[], [0.5], [0.8]]}
        distillation.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
"""

KILLED = """
import os, signal
import raydisc
from raydisc.runs import study

class Killing(study.Study):
    # Ends the driver as the machine's kernel would once two results are known.
    told = 0

    def tell(self, trial, result):
        super().tell(trial, result)
        Killing.told += 1
        if Killing.told == 2:
            os.kill(os.getpid(), signal.SIGKILL)

study.Study = Killing
raydisc.run(raydisc.load_experiment("tiny.yaml"))
"""


def searching(folder: Path, search: str = SEARCH) -> Desk:
    """A desk whose experiment is a search."""
    return make_desk(folder, without_schedules(EXPERIMENT) + "controls: false\n" + search)


def without_schedules(experiment: str) -> str:
    lines = experiment.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("schedules:", "controls:")))


def trials_of(desk: Desk) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in Ledger(desk.folder / "runs" / "ledger").rows("trials")}


def in_journal(desk: Desk) -> list[tuple[str, str, float | None]]:
    """Name, state and metric of each trial in the journal, as `optuna-dashboard` sees them."""
    storage = JournalStorage(JournalFileBackend(str(desk.folder / "runs" / "tiny" / "study.journal")))
    [study] = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=study, storage=storage).get_trials()
    return [(trial.user_attrs["trial"], trial.state.name, trial.value) for trial in trials]


def test_a_search_is_killed_and_resumed_as_if_nothing_had_been(tmp_path: Path) -> None:
    undisturbed, killed = searching(tmp_path / "undisturbed"), searching(tmp_path / "killed")
    undisturbed.run("run", "tiny.yaml")
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=killed.folder, env={**os.environ, "HOME": str(killed.folder)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    begun = in_journal(killed)
    assert [state for _, state, _ in begun].count("COMPLETE") == 2
    killed.run("resume", "tiny")

    found = in_journal(killed)
    assert found == in_journal(undisturbed)
    assert [name for name, _, _ in begun] == [name for name, _, _ in found][: len(begun)]
    assert len(found) == 4
    trials = trials_of(killed)
    assert {name: trial["validation_metric"] for name, trial in trials.items()} == {
        name: metric for name, _, metric in found
    }
    assert {trial["schedule"] for trial in trials.values()} == {"optuna"}
    assert all(trial["state"] == "finished" and trial["test"] for trial in trials.values())
    assert student_hashes(killed) == student_hashes(undisturbed)
    stages = Ledger(killed.folder / "runs" / "ledger").rows("stages", latest=False, state="finished")
    keys = [stage["key"] for stage in stages]
    assert len(set(keys)) == len(keys), "computed once"
    rows = json.loads(killed.ask("compare", "tiny", "--json"))
    assert sorted(row["selected"] for row in rows) == [False] * 3 + [True]


STOPPED = """
resources: {trials: 1}
schedules:
  - optuna:
      trials: 4
      at_once: 1
      sampler: random
      stopping: {asha: {first: 0.2, factor: 2}}
      space:
        distillation.lr: {choices: [3.0e-3, 1.0e-8, 2.0e-8, 3.0e-8]}
"""


def test_a_rule_stops_trials_whose_cost_is_in_the_bill(tmp_path: Path) -> None:
    search = EXPERIMENT.replace("distillation: {epochs: 1,", "distillation: {patience: 100, epochs: 4,")
    desk = make_desk(tmp_path, without_schedules(search) + "controls: false\n" + STOPPED)
    desk.run("run", "tiny.yaml")
    trials, journal = trials_of(desk), in_journal(desk)
    states = {name: trial["state"] for name, trial in trials.items()}
    assert len(states) == 4
    assert "stopped early" in states.values()
    assert {name: state == "stopped early" for name, state in states.items()} == {
        name: state == "PRUNED" for name, state, _ in journal
    }
    rows = Ledger(desk.folder / "runs" / "ledger").rows("stages", latest=False, state="stopped")
    assert rows
    assert all(row["flops"] > 0 and row["device_seconds"] > 0 for row in rows)
    [whole_cost] = {row["schedule_flops"] for row in json.loads(desk.ask("compare", "tiny", "--json"))}
    keys = {key for trial in trials.values() for key in trial["stages"]}
    finished = Ledger(desk.folder / "runs" / "ledger").rows("stages", state="finished")
    searched = [
        row for row in finished if row["key"] in keys and row["kind"] not in ("tokenise", "finetune", "evaluate")
    ]
    assert whole_cost == pytest.approx(sum(row["flops"] for row in [*searched, *rows]))
