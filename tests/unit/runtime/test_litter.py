"""What may go of a storage, and what must stay."""

import fcntl
import json
from pathlib import Path

import pytest

from raydisc.cli import main
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RunState
from raydisc.runtime.litter import find_litter, remove
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.store import ArtifactStore


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two runs, `kept` and `going`, and what a third has left whose folder is gone."""
    ledger, store = Ledger(tmp_path / "ledger"), ArtifactStore(tmp_path)

    def stage(key: str, run: str, kind: str = "distil", inputs: tuple[str, ...] = ()) -> None:
        store.commit(Artifact(key, kind, inputs), {}, Cost(), {"blob": lambda path: path.write_bytes(b"12345")})
        row = {"key": key, "kind": kind, "run": run, "state": "finished", "inputs": list(inputs)}
        ledger.write("stages", [row], key)

    stage("teacher", "removed", "finetune")
    stage("outputs", "kept", "teacher_outputs", ("teacher",))
    stage("student", "kept", inputs=("outputs",))
    stage("shared", "removed")
    stage("lonely", "removed", inputs=("shared",))
    stage("begun", "going", "teacher_outputs")
    ledger.write("trials", [{"run": "kept", "trial": "kd", "state": "finished", "stages": ["shared"]}], "kept.kd")
    RunState("reviews", "finished", 1).write(tmp_path / "kept")
    RunState("reviews", "interrupted", 1).write(tmp_path / "going")
    for left in ("half.partial", "student.partial", ".writing-other-12345678"):
        (tmp_path / "artifacts" / left).mkdir()
        (tmp_path / "artifacts" / left / "file").write_bytes(b"123")
    (tmp_path / "kept" / "tune").mkdir()
    return tmp_path


def names(storage: Path, outputs: bool = False) -> set[str]:
    return {litter.path.name for litter in find_litter(storage, outputs)}


LEFT = {"student.partial", ".writing-other-12345678", "tune"}


def test_what_a_run_made_used_or_stands_on_stays(storage: Path) -> None:
    assert names(storage) == {"lonely", *LEFT}


def test_outputs_go_where_all_their_runs_have_finished(storage: Path) -> None:
    assert names(storage, outputs=True) == {"lonely", "outputs", *LEFT}


def test_checkpoints_go_when_no_run_has_to_go_on(storage: Path) -> None:
    RunState("reviews", "finished", 1).write(storage / "going")
    assert names(storage) == {"lonely", "half.partial", *LEFT}


def test_what_is_held_stays(storage: Path) -> None:
    [lonely] = [litter for litter in find_litter(storage) if litter.path.name == "lonely"]
    with (storage / "kept" / ".lock").open("w") as driver:
        fcntl.flock(driver, fcntl.LOCK_EX)
        assert names(storage) == LEFT - {"tune"}
    with (storage / "locks" / "lonely").open("w") as stage:
        fcntl.flock(stage, fcntl.LOCK_EX)
        assert names(storage) == LEFT
        assert not remove(lonely)
    assert lonely.path.is_dir()


def test_the_command_tells_and_removes_only_when_told_to(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gc", "--storage", str(storage), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["deleted"]
    assert {Path(folder["path"]).name for folder in told["folders"]} == names(storage)
    assert told["bytes"] == sum(litter.size for litter in find_litter(storage)) > 0
    assert main([*words, "--delete"]) == 0
    assert json.loads(capsys.readouterr().out) == {**told, "deleted": True}
    assert find_litter(storage) == []
    assert main(words[:-1]) == 0
    assert "0 bytes may go" in capsys.readouterr().out
    kept = {path.name for path in (storage / "artifacts").iterdir()}
    assert kept == {"teacher", "outputs", "student", "shared", "begun", "half.partial"}
