"""A run that is watched, process by process, while it is disturbed."""

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from raydisc.stages.store import MANIFEST
from raydisc.training.checkpoint import progress_in

TRIAL, COPIES = "ray::ImplicitFunc", "ray::HotCopies"
"""By which the processes of a trial and of the owner of hot copies are known."""


@dataclass(frozen=True)
class Watched:
    """A run in a storage, whose stages have the keys of an undisturbed one.

    Attributes:
        storage: its folder.
        stages: rows of the undisturbed run's ledger.
        driver: its process.
    """

    storage: Path
    stages: Sequence[dict[str, Any]]
    driver: "subprocess.Popen[str]"

    def key(self, kind: str, trial: str = "") -> str:
        """Of a stage, by its kind and how the name of the trial that computed it begins."""
        [key] = [row["key"] for row in self.stages if row["kind"] == kind and row["trial"].startswith(trial)]
        return str(key)

    def has(self, kind: str, trial: str = "") -> bool:
        """Whether a stage has finished."""
        return (self.storage / "artifacts" / self.key(kind, trial) / MANIFEST).is_file()

    def step(self, kind: str, trial: str = "") -> int:
        """That of a stage's last checkpoint; 0 without one."""
        state = progress_in(self.storage / "artifacts" / f"{self.key(kind, trial)}.partial")
        return state.step if state else 0

    def processes(self, name: str) -> list[psutil.Process]:
        """Those of a driver with a Ray of its own, by their name."""
        return named(psutil.Process(self.driver.pid).children(recursive=True), name)

    def reaches(self, kind: str, step: int, trial: str = "") -> int:
        """Wait until a stage that is being trained has a checkpoint of this step or a later one; gives it."""
        self.wait(lambda: self.step(kind, trial) >= step)
        return self.step(kind, trial)

    def goes_on(self, kind: str, step: int, trial: str = "") -> None:
        """Wait for a stage's end, and see that it goes on from a checkpoint of this step, not from its beginning.

        On a quick machine it may end before another checkpoint was seen.
        """
        steps = [step]

        def ended() -> bool:
            steps.append(self.step(kind, trial) or steps[-1])
            return self.has(kind, trial)

        self.wait(ended)
        assert steps == sorted(steps), f"{kind}: done again from its beginning"

    def wait(self, condition: Callable[[], object], seconds: float = 480) -> None:
        """Wait for something, while the driver runs."""
        wait_for(lambda: condition() or self.driver.poll() is not None, seconds)
        if self.driver.poll() is not None and not condition():
            raise AssertionError(f"the driver has ended: {self.driver.returncode}\n{self.driver.communicate()[1]}")

    def ends(self, code: int = 0, seconds: float = 300) -> str:
        """Wait for the driver's end; gives what it said."""
        printed, said = self.driver.communicate(timeout=seconds)
        assert self.driver.returncode == code, f"{self.driver.returncode}\n{printed}\n{said}"
        return said


def wait_for(condition: Callable[[], object], seconds: float = 480) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def named(processes: Sequence[psutil.Process], name: str) -> list[psutil.Process]:
    """Those of Ray's processes that have this name now."""
    found = []
    for process in processes:
        try:
            if re.match(re.escape(name), " ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL to all processes at once; those that have ended already are ignored."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
