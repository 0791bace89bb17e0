"""The folder of a process's temporary files: shut to others, and gone with the process, however that ends."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import tiny_experiment

from raydisc.errors import InputError
from raydisc.runtime import private_folder as private_folder_module
from raydisc.runtime.driver import check_experiment, run_experiment
from raydisc.runtime.private_folder import LOCK, PrivateFolder, usable_base

HOLDING = """
import sys
from raydisc.runtime.private_folder import private_folder
folder = private_folder().path
(folder / "ray").mkdir()
(folder / "ray" / "file").touch()
print(folder, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files, whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def start_owner() -> "tuple[subprocess.Popen[str], Path]":
    """Start a process that holds a folder until its input ends, and return both."""
    owner = subprocess.Popen([sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


def test_only_its_user_enters_whatever_the_umask(base: Path) -> None:
    before = os.umask(0)
    try:
        folder = PrivateFolder()
    finally:
        os.umask(before)
    assert folder.path.parent == base
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    assert list(base.iterdir()) == []


def test_it_goes_with_the_process(base: Path) -> None:
    owner, folder = start_owner()
    assert folder.parent == base
    owner.communicate("\n")
    assert owner.returncode == 0
    assert list(base.iterdir()) == []


def test_that_of_a_killed_process_goes_with_the_next_and_all_others_stay(base: Path) -> None:
    alive, held = start_owner()
    killed, abandoned = start_owner()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (abandoned / "ray" / "file").exists()

    of_another_kind = base / "raydisc-0"
    of_another_kind.mkdir()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (base / "raydisc-link").symlink_to(elsewhere)
    of_another_user = base / "raydisc-foreign"
    if os.geteuid() == 0:  # only root can give a folder away
        of_another_user.mkdir()
        (of_another_user / LOCK).touch()
        os.chown(of_another_user, 65534, 65534)
    before = set(base.iterdir())

    made = PrivateFolder()
    assert set(base.iterdir()) == before - {abandoned} | {made.path}
    assert (elsewhere / LOCK).exists()
    assert (held / "ray" / "file").exists()
    alive.communicate("\n")
    assert not held.exists()


def test_a_forked_copy_of_the_process_leaves_it_alone(base: Path) -> None:
    folder = PrivateFolder()
    child = os.fork()
    if not child:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()
    folder.remove()
    assert not folder.path.exists()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder whose path leaves no room for the names of sockets."""
    folder = tmp_path / ("long" * 10)
    folder.mkdir()
    return folder


def test_a_path_of_the_system_that_is_too_long_for_sockets_is_passed_over(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert usable_base() == Path("/tmp")


def test_a_folder_that_is_named_and_cannot_be_used_is_refused(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file = tmp_path / "file"
    file.touch()
    for named, said in {
        "/proc": "the folder for temporary files '/proc' cannot be written .* name another one in RAY_TMPDIR",
        str(file): f"RAY_TMPDIR is '{file}', which is not a folder; name one, or unset it",
        str(long): f"RAY_TMPDIR is '{long}', a path of {len(str(long))} bytes, but the sockets of Ray need one of at",
    }.items():
        monkeypatch.setenv("RAY_TMPDIR", named)
        storage = tmp_path / "runs"
        for refuse in (check_experiment, run_experiment):
            with pytest.raises(InputError, match=said):
                refuse(tiny_experiment(storage=str(storage)))
        assert not storage.exists(), "before anything is started"
        with pytest.raises(InputError, match=said):
            PrivateFolder()


def old(folder: Path, *parts: str) -> Path:
    """Make a folder that a process has left without a lock a while ago, with these parts in it."""
    folder.mkdir(mode=0o700)
    for part in parts:
        (folder / part).mkdir(parents=True)
    os.utime(folder, (time.time() - 3600,) * 2)
    return folder


def test_a_folder_whose_lock_went_first_goes_with_the_next_and_all_others_stay(base: Path) -> None:
    gone = [old(base / "raydisc-ab12_xyz"), old(base / "raydisc-1234567h", "ray", "node0", "token")]
    kept = [
        old(base / "raydisc-packages", "ray", "mine"),
        old(base / "raydisc-12345678"),
        old(base / "raydisc-job-abcdefgh"),
        old(base / "raydisc-allenter", "ray"),
    ]
    kept[-1].chmod(0o755)
    new = old(base / "raydisc-justmade", "ray")
    new.touch()
    alive = old(base / "raydisc-isserved", "ray/session_1/sockets")
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(alive / "ray" / "session_1" / "sockets" / "raylet"))
        raylet.listen()
        made = PrivateFolder()
        assert set(base.iterdir()) == {*kept, new, alive, made.path}
    assert not any(folder.exists() for folder in gone)
    again = PrivateFolder()
    assert set(base.iterdir()) == {*kept, new, made.path, again.path}, "its process has ended"


def test_the_lock_goes_last(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PrivateFolder()
    (folder.path / "ray").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)  # as if a process wrote on and on
    monkeypatch.setattr(private_folder_module, "_REMOVING_S", 0.0)
    folder.remove()
    assert {path.name for path in folder.path.iterdir()} == {LOCK, "ray"}
    monkeypatch.undo()
    folder.remove()
    assert not folder.path.exists()


def test_one_that_another_process_takes_for_abandoned_is_made_again(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = tempfile.mkdtemp, []

    def taken(**words: Any) -> str:
        made.append(make(**words))
        if len(made) == 1:
            (Path(made[0]) / LOCK).touch()
        elif len(made) == 2:
            Path(made[1]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    folder = PrivateFolder()
    assert [str(folder.path)] == made[2:]
    folder.remove()
