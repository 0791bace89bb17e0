"""Secrets of the environment stay there: not printed, not written, on no process' command line."""

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from desk import Desk

pytestmark = pytest.mark.cluster

SECRETS = {
    "HF_TOKEN": "hf_recognisableHubTokenOfNobody",
    "AWS_ACCESS_KEY_ID": "AKIARECOGNISABLEKEY0",
    "AWS_SECRET_ACCESS_KEY": "recognisable/Secret+AccessKeyOfNobody000",
    "AWS_SESSION_TOKEN": "recognisableSessionTokenOfNobody",
    "RAY_AUTH_TOKEN": "0123recognisable4567raytoken89ab",
}
PASSWORD = "recognisablePasswordOfNobody"


@pytest.fixture
def keeper(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk with secrets in its environment, whose Ray writes its logs into a folder of its own."""
    ray = tempfile.mkdtemp(prefix="rd-")  # a short name: Ray puts sockets there
    monkeypatch.setenv("RAY_TMPDIR", ray)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    yield desk
    shutil.rmtree(ray, ignore_errors=True)


def command_lines() -> Iterator[bytes]:
    """Of every process that is running now."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue


def keep_files_of_ray() -> None:
    """Link the files of the running session to a folder beside it, since Ray's own names of them go with it."""
    root = os.environ["RAY_TMPDIR"]
    kept = Path(root) / "kept"
    kept.mkdir(exist_ok=True)
    for folder, _, names in os.walk(root):
        for path in (Path(folder) / name for name in names if folder != str(kept)):
            with suppress(OSError):  # it has just been removed
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    os.link(path, kept / f"{status.st_ino}-{path.name}")


class Watch:
    """Runs the command and keeps all that anybody could have seen of it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.lines: set[bytes] = set()
        self.printed: list[str] = []

    def run(self, *words: str, code: int) -> str:
        """Run it to its end; gives all that it printed."""
        process = self._desk.start(*words)
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.1):
                self.lines.update(command_lines())
                keep_files_of_ray()

        looking = threading.Thread(target=look)
        looking.start()
        try:
            printed = "".join(process.communicate(timeout=600))
        finally:
            process.kill()
            ended.set()
            looking.join()
        assert process.returncode == code, printed
        self.printed.append(printed)
        return printed

    def leaks(self, secret: str) -> list[str]:
        """Where a secret can be found."""
        places = [f"printed: {text}" for text in self.printed if secret in text]
        places += [f"command line: {line!r}" for line in self.lines if secret.encode() in line]
        for root in (self._desk.folder, Path(os.environ["RAY_TMPDIR"])):
            for path in root.rglob("*"):
                if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                    places.append(str(path))
        return places


def test_secrets_are_found_nowhere(keeper: Desk) -> None:
    watch = Watch(keeper)
    assert "report.html" in watch.run(
        "run", "tiny.yaml", "--plain", "--set", "schedules=[kd]", "--set", "resources.trials=1", code=0
    )
    assert watch.run("run", "tiny.yaml", "--set", "student.scale=5", code=2).startswith("raydisc: ")
    missing = ("--set", "teacher.model=nobody/nothing", "--set", "teacher.architecture=null")
    assert "neither a folder here nor a model that the hub gives" in watch.run(
        "validate", "tiny.yaml", *missing, code=2
    )
    assert any(b"raylet" in line for line in watch.lines), "Ray's own processes were looked at"
    assert list(Path(os.environ["RAY_TMPDIR"]).glob("kept/*-raylet.out")), "Ray's own logs were looked at"
    assert list((keeper.folder / "runs" / "tiny").rglob("experiment.yaml"))
    for secret in SECRETS.values():
        assert watch.leaks(secret) == []


def test_a_password_in_the_address_of_the_storage_is_refused_unseen(keeper: Desk) -> None:
    file = keeper.folder / "tiny.yaml"
    file.write_text(f"{file.read_text()}storage: s3://key:{PASSWORD}@bucket/runs\n")
    watch = Watch(keeper)
    for command in ("run", "validate"):
        assert "storage is an address with a password or a key in it" in watch.run(command, "tiny.yaml", code=2)
    assert watch.leaks(PASSWORD) == [str(file)]
