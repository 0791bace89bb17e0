from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from ledger_world import World

from raydisc.report.runs import RUN_FILE, RunState, known_runs, list_runs, read_state


def test_a_storage_without_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []


def test_runs_are_listed_latest_first_with_their_trials(tmp_path: Path) -> None:
    old, new = World(tmp_path, "old"), World(tmp_path, "new")
    for world, when in ((old, "2025-01-01"), (new, "2999-01-01")):
        RunState(task="toy", state="finished", trials=3, when=when).write(tmp_path / world.run)
        world.trial("a", "kd", "s", 0.5)
        world.trial("b", "kd", None, None, state="failed")
    listed = list_runs(tmp_path)
    assert [run["name"] for run in listed] == ["new", "old"]
    assert listed[0] == {
        "name": "new", "task": "toy", "state": "finished", "finished": 1, "failed": 1, "trials": 3,
        "when": "2999-01-01",
    }  # fmt: skip
    assert listed[1]["when"] > "2025-01-01"  # its last trial is later than its note


def test_a_run_that_only_the_ledger_knows(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.trial("a", "kd", "s", 0.5)
    [run] = list_runs(tmp_path)
    assert (run["name"], run["task"], run["state"], run["trials"], run["finished"]) == ("r", "toy", None, None, 1)


def test_known_runs_are_those_with_a_folder_trials_or_stages(tmp_path: Path) -> None:
    World(tmp_path, "staged").stage("k", "tokenise")
    World(tmp_path, "tried").trial("a", "kd", None, None)
    RunState(task="toy", state="running", trials=1).write(tmp_path / "noted")
    (tmp_path / "artifacts").mkdir()
    assert known_runs(World(tmp_path).ledger) == ["noted", "staged", "tried"]
    assert [run["name"] for run in list_runs(tmp_path)][-1] == "staged"


def test_a_state_is_written_whole_and_read_back(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    state = RunState(task="toy", state="running", trials=2)
    state.write(tmp_path / "r")
    assert read_state(tmp_path / "r") == state
    assert [path.name for path in (tmp_path / "r").iterdir()] == [RUN_FILE]
    assert (state.pid, state.host) == (os.getpid(), socket.gethostname())


def test_a_driver_that_was_killed_is_not_running() -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    state = RunState(task="toy", state="running", trials=1, pid=int(gone.stdout))
    assert state.standing == "interrupted"
    assert RunState(task="toy", state="running", trials=1).standing == "running"
    assert RunState(task="toy", state="running", trials=1, pid=int(gone.stdout), host="elsewhere").standing == "running"
    assert RunState(task="toy", state="finished", trials=1, pid=int(gone.stdout)).standing == "finished"
