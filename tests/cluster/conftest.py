"""Desks with the tiny experiment: a fresh one, and one on which it has ended."""

from pathlib import Path

import pytest
from desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A fresh one."""
    return make_desk(tmp_path / "desk")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One on which `raydisc run tiny.yaml` has ended; tests must leave its run as it is."""
    desk = make_desk(tmp_path_factory.mktemp("finished"))
    (desk.folder / "printed.txt").write_text(desk.run("run", "tiny.yaml"))
    return desk
