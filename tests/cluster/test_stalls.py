"""Trials that hang: their process is ended, and another goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from desk import Desk, student_hashes
from surviving import wait_for
from test_signals import trial_of

from raydisc.report.ledger import Ledger

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
    ledger = Ledger(desk.folder / "runs" / "ledger")
    wait_for(lambda: "tokenise" in set(ledger.read("stages")["kind"]))
    [trial] = trial_of(driver.pid)
    os.kill(trial.pid, signal.SIGSTOP)
    stopped.append(trial)
    _, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert not trial.is_running()
    kd = {name: value for name, value in student_hashes(finished).items() if name.startswith("kd-")}
    assert student_hashes(desk) == kd


SILENT = """
import json, os, time
from raydisc.runtime.session import ray_session

with ray_session():
    import ray
    from ray.tune.experiment import Trial
    from raydisc.runtime.callbacks.stalls import StallWatch

    @ray.remote
    class Process:
        def number(self):
            return os.getpid()

    actor, trial, watch = Process.remote(), Trial("run_job", stub=True), StallWatch(minutes=0.05)
    ray.get(actor.number.remote())
    trial.temporary_state.ray_actor = actor
    trial.set_status(Trial.RUNNING)
    watch.on_trial_start(0, [trial], trial)
    told, begun = [], time.monotonic()
    while time.monotonic() < begun + 10:
        if time.monotonic() < begun + 5:
            watch.on_trial_result(0, [trial], trial, {})
        watch.on_step_begin(0, [trial])
        told.append((time.monotonic() - begun, watch.hung(trial.trial_id)))
        time.sleep(0.1)
    try:
        alive = bool(ray.get(actor.number.remote()))
    except ray.exceptions.ActorDiedError:
        alive = False
print(json.dumps({"told": told, "alive": alive}))
"""


def test_silence_is_counted_from_what_was_told_last_and_is_the_reason_that_is_given(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert {reason for second, reason in said["told"] if second < 7} == {None}
    assert said["told"][-1][1] == "it reported nothing for 0.05 minutes (resources.stall_minutes)"
    assert not said["alive"]
