"""What may go of a storage, and what must stay."""

import json
from pathlib import Path

import pytest
from s3_server import Server

from raydisc.cli.main import main
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RunState
from raydisc.runs.garbage import find_litter, remove
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.store import ArtifactStore
from raydisc.storage.folder import Storage
from raydisc.storage.mirrored import MirroredStorage
from raydisc.storage.remote import Remote


@pytest.fixture
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    """Two runs, `kept` and `going`, and what a third has left whose folder is gone."""
    if getattr(request, "param", "folder") == "folder":
        storage = Storage(tmp_path)
    else:
        server: Server = request.getfixturevalue("s3")
        storage = MirroredStorage(tmp_path, Remote(server.address(f"{server.bucket()}/runs")))
    ledger, store = Ledger(storage / "ledger"), ArtifactStore(storage)

    def stage(key: str, run: str, kind: str = "distil", inputs: tuple[str, ...] = ()) -> None:
        store.commit(Artifact(key, kind, inputs), {}, Cost(), {"blob": lambda path: path.write_bytes(b"12345")})
        row = {"key": key, "kind": kind, "run": run, "state": "finished", "inputs": list(inputs)}
        ledger.write("stages", [row], key)

    stage("teacher", "removed", "finetune")
    stage("outputs", "kept", "teacher_outputs", ("teacher",))
    stage("student", "kept", inputs=("outputs",))
    stage("shared", "removed")
    stage("lonely", "removed", "evaluate", ("shared",))
    stage("begun", "going", "teacher_outputs")
    ledger.write("trials", [{"run": "kept", "trial": "kd", "state": "finished", "stages": ["shared"]}], "kept.kd")
    RunState("reviews", "finished", 1).write(storage / "kept")
    RunState("reviews", "interrupted", 1).write(storage / "going")
    for left in (f"artifacts/{name}" for name in ("half.partial", "student.partial", ".writing-other-12345678")):
        leave(storage, left)
    leave(storage, "kept/tune")
    return storage


def leave(storage: Storage, folder: str) -> None:
    path = storage.path(f"{folder}/file")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"123")
    storage.publish(f"{folder}/file")


def names(storage: Storage, outputs: bool = False) -> set[str]:
    return {litter.name.rpartition("/")[2] for litter in find_litter(storage, outputs)}


LEFT = {"student.partial", ".writing-other-12345678", "tune"}


def test_what_a_run_made_used_or_stands_on_stays(storage: Storage) -> None:
    assert names(storage) == {"lonely", *LEFT}


def test_outputs_go_where_all_their_runs_have_finished(storage: Storage) -> None:
    assert names(storage, outputs=True) == {"lonely", "outputs", *LEFT}


def test_checkpoints_go_when_no_run_has_to_go_on(storage: Storage) -> None:
    RunState("reviews", "finished", 1).write(storage / "going")
    assert names(storage) == {"lonely", "half.partial", *LEFT}


def test_what_is_held_stays(storage: Storage) -> None:
    [lonely] = [litter for litter in find_litter(storage) if litter.name.endswith("lonely")]
    with storage.holding("kept/.lock"):
        assert names(storage) == LEFT - {"tune"}
    with storage.holding("locks/lonely"):
        assert names(storage) == LEFT
        assert not remove(storage, lonely)
    assert ArtifactStore(storage).find("lonely") is not None


@pytest.mark.parametrize("storage", ["folder", "address"], indirect=True)
def test_the_command_tells_and_removes_only_when_told_to(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "0 bytes can be removed" in capsys.readouterr().out
    assert set((storage / "artifacts").folders()) == {
        "teacher",
        "outputs",
        "student",
        "shared",
        "begun",
        "half.partial",
    }
