"""SIGTERM to the processes of a run's trials: they keep what they have, and others go on."""

import signal
import time

import psutil
import pytest
from desk import Desk
from surviving import TRIAL, named, wait_for

from raydisc.runtime.callbacks.retries import CRASHES_FORGIVEN
from raydisc.training.checkpoint import progress_in

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LONG = ("--set", "teacher.finetune.epochs=4000", "--set", "schedules=[kd]")
"""A teacher that takes half an hour, so that the signal comes amid its training; checkpoints are a minute apart."""


def partial(desk: Desk) -> int | None:
    """The step of the only checkpoint; None without one."""
    for folder in (desk.folder / "runs" / "artifacts").glob("*.partial"):
        state = progress_in(folder)
        return state.step if state else None
    return None


def trial_of(driver: int) -> list[psutil.Process]:
    return named(psutil.Process(driver).children(recursive=True), TRIAL)


def test_a_trial_that_is_told_to_go_keeps_a_checkpoint_and_another_goes_on(desk: Desk) -> None:
    driver = desk.start("run", "tiny.yaml", *LONG)
    try:
        wait_for(lambda: trial_of(driver.pid))
        time.sleep(5)
        [trial] = trial_of(driver.pid)
        trial.terminate()
        wait_for(lambda: partial(desk))
        first = partial(desk)
        assert first is not None
        wait_for(lambda: not trial.is_running())
        wait_for(lambda: trial_of(driver.pid))
        time.sleep(10)
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=120)
        assert driver.returncode == 3, said
        later = partial(desk)
        assert later is not None
        assert later > first
    finally:
        driver.kill()


def test_a_trial_that_gets_further_each_time_may_be_killed_any_number_of_times(desk: Desk) -> None:
    driver = desk.start("run", "tiny.yaml", *LONG)
    try:
        steps: list[int] = []
        killed: set[int] = set()
        for _ in range(CRASHES_FORGIVEN + 2):
            wait_for(lambda: [it for it in trial_of(driver.pid) if it.pid not in killed])
            [trial] = [it for it in trial_of(driver.pid) if it.pid not in killed]
            last = steps[-1] if steps else 0
            time.sleep(8)
            trial.terminate()
            killed.add(trial.pid)
            wait_for(lambda last=last: (partial(desk) or 0) > last)  # type: ignore[misc]
            steps.append(partial(desk) or 0)
            wait_for(lambda trial=trial: not trial.is_running())  # type: ignore[misc]
        assert driver.poll() is None
        driver.send_signal(signal.SIGTERM)
        driver.communicate(timeout=120)
        assert driver.returncode == 3
    finally:
        driver.kill()
