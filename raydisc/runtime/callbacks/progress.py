"""Passes what Tune hears of the trials on to the reporter."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.jobs import Job
from raydisc.runtime.callbacks.base import Watcher


class ReporterCallback(Watcher):
    """Tells the reporter of progress, candidates, ends and failures.

    Tune charges a callback's exception to the trial, so nothing that goes wrong in the reporter may leave it.

    Args:
        reporter: takes the news.
        jobs: the plan, by name.
        hung: says of a Tune trial by its number why its process was ended, if it hung.
    """

    def __init__(
        self, reporter: LiveReporter, jobs: dict[str, Job], hung: Callable[[str], str | None] = lambda trial: None
    ) -> None:
        """Start silent."""
        self._reporter, self._jobs, self._hung = reporter, jobs, hung
        self.failures: dict[str, str] = {}
        self.ended: set[str] = set()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial has reported."""
        job = self._jobs[trial.config["job"]]
        if result.get("stopped"):
            with contextlib.suppress(Exception):
                self._reporter.stopped(job.name, job.label, result["message"])
            return
        if result.get("stage") == "done":
            self._end(job, result.get("failure"), result.get("message", ""), trial.config.get("inherited_failure"))
            return
        with contextlib.suppress(Exception):
            if "notice" in result:
                self._reporter.notice(result["notice"])
                return
            if "step" not in result:  # it goes on
                return
            self._reporter.update(job.name, job.label, result["stage"], result["step"], result.get("steps", 0))
            if "candidates" in result:
                self._reporter.candidates(result["candidates"], result["key"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial's process died more often than it may."""
        why = self._hung(trial.trial_id) or cause_of_death(trial.get_error())
        self._end(self._jobs[trial.config["job"]], f"its process died again and again: {why}")

    def _end(self, job: Job, failure: str | None, message: str = "", inherited: str | None = None) -> None:
        self.ended.add(job.name)
        if failure is not None and inherited is None:
            self.failures[job.name] = failure
        with contextlib.suppress(Exception):
            if failure is None:
                self._reporter.finished(job.name, job.label, message)
            else:
                self._reporter.failed(job.name, job.label, failure)


def cause_of_death(error: object) -> str:
    """Why a process died, as far as Ray tells; of a process that has not even started it tells nothing."""
    if re.search(r"out of memory|low on memory|OutOfMemory|\bOOM\b", str(error)):
        return (
            "the machine ran out of memory; run fewer trials at once (resources.trials), or give each more workers "
            "(resources.workers)"
        )
    return "the log of Ray says why"
