"""The folder of a process's temporary files: shut to others, and gone with the process, however that ends."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydisc.errors import InputError
from raydisc.runtime.private_folder import LOCK, PrivateFolder

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


def test_a_path_too_long_for_sockets_is_passed_over(
    base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("long" * 10)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    folder = PrivateFolder()
    assert folder.path.parent == base
    folder.remove()


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    with pytest.raises(InputError, match="the folder for temporary files '/proc' cannot be written .* RAY_TMPDIR"):
        PrivateFolder()
