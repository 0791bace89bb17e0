"""SIGTERM ends a driver as Ctrl-C does, and has the process of a trial write a checkpoint before it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydisc.exit_codes import STOPPED, exit_code_of
from raydisc.runs.termination import interrupt, on_sigterm


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, which a shell has its background jobs ignore; these tests may run in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt_a_driver(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> int:
        with on_sigterm(interrupt):
            os.kill(os.getpid(), number)
            time.sleep(10)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert exit_code_of(act) == STOPPED
    assert signal.getsignal(signal.SIGTERM) is before
    assert "interrupted" in capsys.readouterr().err


TRAINING = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
from training import SETTINGS, batch_at, fetching, linear, pull
from raydisc.errors import Stopped
from raydisc.runs.termination import heed_sigterm, is_going
from raydisc.training.checkpoint import progress_in
from raydisc.training.loop import no_evaluation, train
from raydisc.training.progress import step_of

for told_at in (0, 7):  # at the beginning, and amid the training
    if os.fork():
        os.wait()
        continue
    heed_sigterm()

    def tell(step):
        if step == told_at:
            os.kill(os.getpid(), signal.SIGTERM)

    folder, model = Path(str(told_at)), linear()
    folder.mkdir()
    settings = replace(SETTINGS, checkpoint_folder=folder, checkpoint_every_s=60.0, stops=is_going)
    tell(0)
    try:
        train(model, settings, fetching(batch_at, pull(model)), no_evaluation, lambda event: tell(step_of(event)))
    except Stopped as stopped:
        print(json.dumps([told_at, progress_in(folder).step, str(stopped)]), flush=True)
    os._exit(0)
"""


def test_a_trial_s_process_that_is_told_to_go_keeps_a_checkpoint(tmp_path: Path) -> None:
    """At the next step, though checkpoints are a minute apart."""
    folders = (Path(__file__).parents[1] / "training", Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [0, 1, "distil to 0.3: stopped at step 1 of 12"], [7, 8, "distil to 0.3: stopped at step 8 of 12"],
    ]  # fmt: skip
