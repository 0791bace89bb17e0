"""Runs whose storage is behind an address, fails at random, or holds what was altered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from desk import Desk, make_desk, student_hashes
from outcome import refuse_other_outcome
from s3_server import Server, faulty
from surviving import wait_for

from raydisc.report.ledger import Ledger
from raydisc.storage.mirrored import CACHE_VARIABLE

pytestmark = pytest.mark.cluster


@pytest.mark.slow
def test_a_run_on_a_faulty_object_store_ends_with_the_same_bits(
    finished: Desk, tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    desk, bucket = make_desk(tmp_path / "desk"), s3.bucket()
    with faulty(s3, share=0.1) as (seen, proxy):
        storage = seen.address(f"{bucket}/runs")
        printed = desk.run("run", "tiny.yaml", "--storage", storage)
        assert f"students: s3://{bucket}/runs/tiny/students" in printed
        assert sum(proxy.happened.values()) > 10, proxy.happened
    storage = s3.address(f"{bucket}/runs")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "another"))  # as on another machine
    assert "tiny" in desk.run("ls", "--storage", storage)
    assert desk.json("show", "tiny", "--json", "--storage", storage)["trials"]
    look = Desk(desk.folder / "look")
    (look.folder / "runs").mkdir(parents=True)
    fetch = (
        "import shutil, sys; from raydisc.storage.address import open_storage\n"
        "storage = open_storage(sys.argv[1])\n"
        "[storage.fetch_again(name) for name in ('tiny', 'ledger', 'artifacts')]\n"
        "shutil.copytree(storage.folder, sys.argv[2], dirs_exist_ok=True)"
    )
    subprocess.run([sys.executable, "-c", fetch, storage, str(look.folder / "runs")], check=True)
    refuse_other_outcome(look.folder / "runs", finished.folder / "runs")
    desk.run("resume", "tiny", "--storage", storage)
    left = {name for name in os.listdir(desk.folder) if not name.startswith(".")}  # those are the home's
    assert left == {"tiny.yaml", "look"}


def altered(desk: Desk) -> str:
    """Alter the weights that importance has left; gives their key."""
    [importance] = Ledger(desk.folder / "runs" / "ledger").rows("stages", kind="importance")
    path = desk.folder / "runs" / "artifacts" / importance["key"] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    key: str = importance["key"]
    return key


@pytest.mark.slow
def test_an_altered_artifact_is_named_and_computed_anew_or_refused(desk: Desk) -> None:
    desk.run("run", "tiny.yaml", "--set", "schedules=[kd]")
    before = student_hashes(desk)
    key = altered(desk)
    words = ["run", "tiny.yaml", "--name", "again", "--set", "schedules=[{takd: {path: [0.5]}}]"]
    said = desk.run(*words, "--set", "altered_artifacts=refuse", code=1)
    assert key in said
    assert "model.safetensors" in said
    process = desk.start(*words)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert f"the file model.safetensors of artifact {key} was not what was written; it is computed again" in told
    stages = Ledger(desk.folder / "runs" / "ledger").read("stages", latest=False, state="finished")
    assert list(stages["kind"][stages["key"].duplicated()]) == ["importance"]
    assert student_hashes(desk) == before


@pytest.mark.slow
def test_a_storage_that_fills_up_ends_the_run_with_a_sentence(desk: Desk, finished: Desk) -> None:
    disk = desk.folder / "runs"
    disk.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", disk]).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        ballast = disk / "ballast"
        process = desk.start("run", "tiny.yaml", "--set", "schedules=[kd]")
        wait_for(lambda: len(Ledger(desk.folder / "runs" / "ledger").read("stages")))
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass
        _, said = process.communicate(timeout=300)
        assert process.returncode == 1, said
        assert f"storage: '{disk}' is full" in said
        ballast.unlink()
        desk.run("resume", "tiny")
        [student] = student_hashes(desk).items()
        assert student in student_hashes(finished).items()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
