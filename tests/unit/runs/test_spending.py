"""What a run has spent, by the ledger and by the clock."""

from pathlib import Path

import pytest

from raydisc.config.resources import BudgetConfig
from raydisc.report.ledger import Ledger
from raydisc.runs.budget import Spending
from raydisc.runs.jobs import PREPARE, Job, within

DAY = 24.0


def stage(key: str, state: str, seconds: float, run: str = "mine") -> dict[str, object]:
    return {
        "key": key,
        "kind": "distil",
        "run": run,
        "state": state,
        "device_seconds": seconds,
        "message": str(seconds),
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path)
    rows = [
        stage("a", "stopped", 100.0), stage("a", "finished", 250.0),  # went on from what it had when it was stopped
        stage("b", "failed", 10.0), stage("b", "stopped", 20.0),
        stage("c", "finished", 7.0, run="another"),
    ]  # fmt: skip
    for number, row in enumerate(rows):
        ledger.write("stages", [row], f"part-{number}")
    return ledger


def spending(ledger: Ledger, wall_before: float = 0.0, **limits: float) -> Spending:
    return Spending(BudgetConfig(**limits), ledger, "mine", wall_before)


def test_a_finished_stage_counts_once_and_one_that_was_broken_off_with_every_try(ledger: Ledger) -> None:
    assert spending(ledger, device_hours=DAY).device_seconds == 280.0
    assert spending(ledger, device_hours=280 / 3600).is_spent()
    assert not spending(ledger, device_hours=281 / 3600).is_spent()


def test_a_running_stage_counts_with_its_devices_until_the_ledger_has_it(ledger: Ledger) -> None:
    running = spending(ledger, device_hours=DAY)
    running.runs("job", "d", devices=1000)
    assert running.device_seconds > 280.0
    ledger.write("stages", [stage("d", "finished", 5.0)], "part-d")
    running.runs("job", "e", devices=0)
    assert running.device_seconds == 285.0


def test_a_stage_that_goes_on_counts_beside_its_earlier_tries(ledger: Ledger) -> None:
    running = spending(ledger, device_hours=DAY)
    running.runs("job", "b", devices=10**9)
    assert running.device_seconds > 1000.0


def test_the_time_of_earlier_drivers_counts(ledger: Ledger) -> None:
    assert spending(ledger, wall_before=3600.0, wall_hours=1.0).is_spent()
    assert not spending(ledger, wall_before=3500.0, wall_hours=1.0).is_spent()
    assert not spending(ledger, wall_before=3600.0).is_spent()


def test_a_plan_within_so_many_trials_holds_what_they_need_and_nothing_else() -> None:
    some = object()
    jobs = [
        Job(PREPARE, ""),
        Job("shared", "", needs=(PREPARE,), trial=some, until="key"),
        Job("kd", "", needs=(PREPARE,), trial=some),
        Job("minidisc", "", needs=(PREPARE, "shared"), trial=some),
        Job("test-of-kd", "", needs=("kd", "minidisc"), trial=some, test=True),
    ]
    assert [job.name for job in within(jobs, 1)] == [PREPARE, "kd"]
    assert within(jobs, 2) == within(jobs, None) == jobs
