"""Ending a run before its time. Import this inside a ``ray_session``: Ray reads its settings when imported."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Literal

import ray

from raydisc.runs.budget import Spending
from raydisc.runs.jobs import Job
from raydisc.runs.termination import GRACE_S
from raydisc.runtime.callbacks.base import Watcher
from raydisc.runtime.reports import JobEnded, JobStopped, MetricReport, from_result
from raydisc.stages.executor import StageEvent

_ASK_TO_STOP_EVERY_S = 1.0
_ASK_EVERY_S = 0.5

Reason = Literal["budget", "signal"]


class Overseer(Watcher):
    """Asks a run's jobs to stop when its budget is spent, or when its driver gets SIGTERM.

    Args:
        spending: What the run has spent.
        devices: Returns the number of devices that a job holds.
        copies: The handle of the ``HotCopies`` actor, which trials ask whether to stop.
        note: Called after every job.
    """

    def __init__(
        self,
        spending: Spending,
        devices: Callable[[Job], int],
        copies: Any,
        note: Callable[[], None],
    ) -> None:
        """Start with nothing to say."""
        self._spending, self._devices = spending, devices
        self._copies, self._note = copies, note
        self._asked_at = 0.0
        self._last = float("inf")
        self.reason: Reason | None = None

    def go(self) -> None:
        """Have the jobs keep what they have and stop; those that take too long are left."""
        self.reason, self._last = "signal", time.monotonic() + GRACE_S

    def stopping(self) -> bool:
        """Whether no further job is to be begun."""
        if self.reason is None and self._spending.is_spent():
            self.reason = "budget"
        return self.reason is not None

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Ask the jobs to stop, or end without them; Tune calls this several times a second."""
        if self.stopping() and time.monotonic() - self._asked_at > _ASK_TO_STOP_EVERY_S:
            self._asked_at = time.monotonic()
            self._copies.stop.remote()
        if time.monotonic() > self._last:
            self._last = float("inf")
            os.kill(os.getpid(), signal.SIGINT)  # upon which Tune ends without waiting for them

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Note the stage that a job is running, or that the job has ended."""
        job: Job = trial.config["job"]
        match from_result(result):
            case JobEnded() | JobStopped():
                self._end(job)
            case StageEvent(key=key) | MetricReport(key=key):
                self._spending.runs(job.name, key, self._devices(job))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note that a job's process died more often than it may."""
        self._end(trial.config["job"])

    def _end(self, job: Job) -> None:
        self._spending.ends(job.name)
        self._note()


class StopAsked:
    """Whether the driver has asked the jobs to stop; asks now and then, without waiting for the answer.

    Args:
        copies: The handle of the ``HotCopies`` actor.
    """

    def __init__(self, copies: Any) -> None:
        """Start with nothing heard."""
        self._copies = copies
        self._question: Any = None
        self._next = 0.0
        self._asked = False

    def __call__(self) -> bool:
        """Whether the jobs are to stop, as far as is known."""
        if not self._asked and time.monotonic() > self._next:
            self._next = time.monotonic() + _ASK_EVERY_S
            self._ask()
        return self._asked

    def _ask(self) -> None:
        if self._question is None:
            self._question = self._copies.stopping.remote()
        answers, _ = ray.wait([self._question], timeout=0)
        if answers:
            self._question = None
            try:
                self._asked = ray.get(answers[0])
            except ray.exceptions.RayError:  # the actor is being restarted
                self._asked = False
