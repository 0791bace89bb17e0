"""The files of a local Ray session: out of reach for other users, and gone when the run ends, however it ends."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from desk import Desk, said_until
from listening import LISTENING, refuse_open
from surviving import TRIAL, kill, named, wait_for
from test_signals import LONG, partial

from raydisc.runtime import private_folder

pytestmark = pytest.mark.cluster


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files that everybody can write, as the system's is; Ray's default is below it."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    folder.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield folder
    shutil.rmtree(folder)


def left_in(folder: Path) -> list[str]:
    """Return the names of what is left there of Ray and raydisc; torch keeps a folder for kernels."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor_")]


LOOK = (
    LISTENING
    + """
import json, os
from pathlib import Path
from raydisc.runtime.session import ray_session

os.umask(0)
base = Path(os.environ["TMPDIR"])
with ray_session():
    import ray
    files = [(str(path.relative_to(base)), path.lstat().st_mode) for path in sorted(base.rglob("*"))]
    temp_dir, seen = ray.get_runtime_context().get_temp_dir(), listening()
    left = [path.name for path in Path("/tmp/ray").glob(f"session_*_{os.getpid()}")]
with ray_session():
    again = ray.get_runtime_context().get_temp_dir()
print(json.dumps({"files": files, "temp_dir": temp_dir, "again": again, "left": left, "listening": seen,
                  "kept": sorted(path.name for path in (base / files[0][0]).iterdir())}))
"""
)


def test_nobody_else_reaches_a_session_or_its_files(temporary: Path, tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    refuse_open(said["listening"])
    assert not (tmp_path / ".ray").exists()
    (top, mode), *below = said["files"]
    assert stat.S_IMODE(mode) == 0o700
    assert all(name.startswith(f"{top}/") for name, _ in below)
    assert said["temp_dir"] == said["again"] == str(temporary / top / "ray")
    assert any(stat.S_IMODE(mode) & 0o002 for _, mode in below), "Ray no longer lets everybody write to its folders"
    sockets = [name for name, mode in below if stat.S_ISSOCK(mode)]
    assert any(name.endswith("plasma_store") for name in sockets)
    assert max(len(f"/{name}") for name in sockets) <= len(private_folder.SOCKET_BELOW)
    assert said["left"] == []
    assert said["kept"] == [private_folder.LOCK, "token"], "files of a session stay after its end"
    assert left_in(temporary) == []


def ended(desk: Desk, temporary: Path, end: Callable[["subprocess.Popen[str]"], None]) -> str:
    """End a run before its teacher is trained, and see that nothing stays of it; gives what it said at last."""
    driver = desk.start("run", "tiny.yaml", *LONG)
    try:
        end(driver)
        _, said = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert driver.returncode == 3, said
    assert left_in(temporary) == []
    return said


def trial_begins(driver: "subprocess.Popen[str]", temporary: Path) -> None:
    """Wait until a trial has a process."""
    children = psutil.Process(driver.pid).children
    wait_for(lambda: named(children(recursive=True), TRIAL) or driver.poll() is not None)
    assert list(temporary.glob("raydisc-*/ray/session_latest/logs"))


def test_a_run_that_is_interrupted_as_it_begins_says_how_to_go_on(desk: Desk, temporary: Path) -> None:
    def interrupt(driver: "subprocess.Popen[str]") -> None:
        trial_begins(driver, temporary)
        driver.send_signal(signal.SIGINT)

    assert "interrupted; continue with: raydisc resume tiny" in ended(desk, temporary, interrupt)
    assert "interrupted" in desk.ask("ls")


def test_a_driver_that_is_told_to_go_amid_the_training_keeps_a_checkpoint(desk: Desk, temporary: Path) -> None:
    def terminate(driver: "subprocess.Popen[str]") -> None:
        said_until(driver, r"finetune \d")
        driver.terminate()

    assert "interrupted; continue with: raydisc resume tiny" in ended(desk, temporary, terminate)
    assert "interrupted" in desk.ask("ls")
    assert partial(desk)


def test_a_run_ends_with_its_raylet(desk: Desk, temporary: Path) -> None:
    def lose(driver: "subprocess.Popen[str]") -> None:
        trial_begins(driver, temporary)
        kill([it for it in psutil.Process(driver.pid).children() if "raylet" in it.name()])

    ended(desk, temporary, lose)


def test_nothing_stays_of_a_run_that_fails_and_the_next_removes_what_a_killed_one_has_left(
    desk: Desk, temporary: Path
) -> None:
    code = "from raydisc.runtime.session import ray_session\nwith ray_session(): {}"
    killed = subprocess.run([sys.executable, "-c", code.format("import os; os.kill(os.getpid(), 9)")], timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert list(temporary.glob("raydisc-*/ray/session_latest/logs"))
    failed = subprocess.run(
        [sys.executable, "-c", code.format("raise ValueError('as planned')")], capture_output=True, timeout=240
    )
    assert b"as planned" in failed.stderr
    assert left_in(temporary) == []
