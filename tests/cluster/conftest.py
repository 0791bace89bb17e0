"""Desks with the tiny experiment: a fresh one, and one on which it has ended; one with the lasting experiment."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import LASTING, Desk, make_desk


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long and by which choices `test_soak.py` goes on."""
    parser.addoption("--kills", type=int, default=30, help="kills of the soak (default: 30)")
    parser.addoption("--seed", type=int, help="of the soak's choices (default: another each time)")


@pytest.fixture(scope="session", autouse=True)
def _files_of_ray() -> Iterator[None]:
    """Keep the files of every Ray that tests start in a folder that no other user can enter."""
    folder = tempfile.mkdtemp(prefix="rd-")  # a short name: Ray puts sockets there
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A fresh one."""
    return make_desk(tmp_path / "desk")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One on which `raydisc run tiny.yaml` has ended; tests must leave its run as it is.

    Pytest's workers share it: the first that needs it makes it, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    desk = make_desk((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished")
    printed = desk.folder / "printed.txt"
    with (desk.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            printed.write_text(desk.run("run", "tiny.yaml"))
    return desk


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One on which the lasting experiment has ended; what disturbed runs of it find is compared with it."""
    desk = make_desk(tmp_path_factory.mktemp("undisturbed"), LASTING)
    desk.run("run", "tiny.yaml")
    return desk
