"""Trials that hang: their process is ended, and another goes on."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from desk import Desk, student_hashes
from surviving import wait_for
from test_signals import trial_of

pytestmark = pytest.mark.cluster

ONE = ("--set", "schedules=[kd]", "--set", "resources.trials=1", "--set", "resources.stall_minutes=0.5")


@pytest.fixture
def stopped() -> Iterator[list[psutil.Process]]:
    """Processes that were stopped, and must not be left so."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        if process.is_running():
            process.kill()


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_another_process_goes_on(
    desk: Desk, finished: Desk, stopped: list[psutil.Process]
) -> None:
    driver = desk.start("run", "tiny.yaml", *ONE)
    wait_for(lambda: trial_of(driver.pid))
    [trial] = trial_of(driver.pid)
    os.kill(trial.pid, signal.SIGSTOP)
    stopped.append(trial)
    _, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert not trial.is_running()
    kd = {name: value for name, value in student_hashes(finished).items() if name.startswith("kd-")}
    assert student_hashes(desk) == kd
