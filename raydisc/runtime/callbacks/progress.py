"""Passes the reports of trials to Tune on to the live reporter."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.jobs import Job
from raydisc.runtime.callbacks.base import Watcher


class ReporterCallback(Watcher):
    """Passes progress, candidates, ends and failures of jobs on to the reporter.

    Tune charges a callback's exception to the trial, so nothing that goes wrong in the reporter may leave it.

    Args:
        reporter: The live reporter.
        hung: Returns why the process of a Tune trial was ended, by the trial's number, if it hung; else None.
    """

    def __init__(self, reporter: LiveReporter, hung: Callable[[str], str | None] = lambda trial: None) -> None:
        """Start silent."""
        self._reporter, self._hung = reporter, hung
        self.failures: list[str] = []
        """One sentence for each job that failed by itself."""
        self.ended: set[str] = set()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Pass on the report of a trial."""
        job: Job = trial.config["job"]
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
        """Pass on that a trial's process died more often than it may."""
        why = self._hung(trial.trial_id) or cause_of_death(trial.get_error())
        self._end(trial.config["job"], f"its process died again and again: {why}")

    def _end(self, job: Job, failure: str | None, message: str = "", inherited: str | None = None) -> None:
        self.ended.add(job.name)
        if failure is not None and inherited is None:
            self.failures.append(f"{job.label}: {failure}")
        with contextlib.suppress(Exception):
            if failure is None:
                self._reporter.finished(job.name, job.label, message)
            else:
                self._reporter.failed(job.name, job.label, failure)


def cause_of_death(error: object) -> str:
    """Return why a process died, as far as Ray says; of a process that has not even started it says nothing."""
    if re.search(r"out of memory|low on memory|OutOfMemory|\bOOM\b", str(error)):
        return (
            "the machine ran out of memory; run fewer trials at once (resources.trials), or give each more workers "
            "(resources.workers)"
        )
    return "the log of Ray says why"
