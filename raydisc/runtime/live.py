"""Passes what Tune hears of the trials on to the reporter."""

import contextlib
from typing import Any

from ray import tune

from raydisc.report.live import LiveReporter
from raydisc.runtime.plan import Job


class ReporterCallback(tune.Callback):
    """Tells the reporter of progress, candidates, ends and failures.

    Tune charges a callback's exception to the trial, so nothing that goes wrong in the reporter may leave it.

    Args:
        reporter: takes the news.
        jobs: the plan, by name.
    """

    def __init__(self, reporter: LiveReporter, jobs: dict[str, Job]) -> None:
        """Start silent."""
        self._reporter, self._jobs = reporter, jobs
        self.failures: dict[str, str] = {}
        self.ended: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks with its state, which is never restored, and a terminal has no pickle."""
        return {}

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
            self._reporter.update(job.name, job.label, result["stage"], result.get("step", 0), result.get("steps", 0))
            if "candidates" in result:
                self._reporter.candidates(result["candidates"], result["key"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial's process died more often than it may."""
        self._end(self._jobs[trial.config["job"]], "its process died; the log of Ray says why")

    def _end(self, job: Job, failure: str | None, message: str = "", inherited: str | None = None) -> None:
        self.ended.add(job.name)
        if failure is not None and inherited is None:
            self.failures[job.name] = failure
        with contextlib.suppress(Exception):
            if failure is None:
                self._reporter.finished(job.name, job.label, message)
            else:
                self._reporter.failed(job.name, job.label, failure)
