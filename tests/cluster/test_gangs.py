"""Trials of two workers: what one finds, though one of them be killed; and what is refused."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from desk import Desk, make_desk

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster

SETTINGS = [
    "--set", "schedules=[{minidisc: {lam: 0.2}}]", "--set", "controls=false",
    "--set", "teacher.architecture.hidden_dropout_prob=0",
    "--set", "teacher.architecture.attention_probs_dropout_prob=0",
]  # fmt: skip
TWO = ["--set", "resources.workers=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    desk = make_desk(tmp_path_factory.mktemp("alone"))
    desk.run("run", "tiny.yaml", *SETTINGS)
    return compared(desk)


def compared(desk: Desk) -> list[dict[str, Any]]:
    return list(desk.json("compare", "tiny", "--json"))


def check(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted) > 0
    for mine, theirs in zip(found, wanted, strict=True):
        for exact in ("schedule", "path", "search_flops"):
            assert mine[exact] == theirs[exact]
        for metric in ("validation_metric", "test_metric"):
            assert mine[metric] == pytest.approx(theirs[metric], abs=1e-6)


@pytest.mark.parametrize("parallel", ["data", "shard"])
def test_two_workers_find_what_one_finds(desk: Desk, alone: list[dict[str, Any]], parallel: str) -> None:
    desk.run("run", "tiny.yaml", *SETTINGS, *TWO, "--set", f"resources.parallel={parallel}")
    check(compared(desk), alone)


def test_a_run_whose_worker_is_killed_ends_as_if_it_had_not_been(desk: Desk, alone: list[dict[str, Any]]) -> None:
    """Killed while a stage is computed."""
    process = desk.start("run", "tiny.yaml", *SETTINGS, *TWO, "--set", "resources.parallel=shard")
    ledger, end = Ledger(desk.folder / "runs" / "ledger"), time.monotonic() + 240
    while not (ledger.read("stages")["kind"] == "importance").any():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    workers = [
        it for it in psutil.Process(process.pid).children(recursive=True) if "GangWorker" in it.name() + named(it)
    ]
    assert workers
    workers[-1].kill()
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, printed + said
    check(compared(desk), alone)


def named(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_more_workers_than_devices_are_refused(desk: Desk) -> None:
    said = desk.run("run", "tiny.yaml", "--set", "resources.workers=500", code=2)
    assert "resources.workers: 500 workers with 1 threads each" in said
    said = desk.run("run", "tiny.yaml", "--set", "resources.workers=3", "--set", "resources.parallel=hybrid", code=2)
    assert "'hybrid' needs 'shard', a divisor of the 3 workers" in said
    assert not Path(desk.folder / "runs" / "artifacts").exists()
