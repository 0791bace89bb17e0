"""Passes the reports of trials to Tune on to the live reporter."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.jobs import Job
from raydisc.runtime.callbacks.base import Watcher
from raydisc.runtime.reports import AlteredFound, JobEnded, JobStopped, from_result
from raydisc.stages.executor import StageEvent
from raydisc.training.progress import Evaluated, Notice, Ranked, StepsDone


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
        report = from_result(result)
        if isinstance(report, JobEnded):
            self._end(job, report.failure, report.message, trial.config.get("inherited_failure"))
            return
        with contextlib.suppress(Exception):
            match report:
                case JobStopped(message):
                    self._reporter.stopped(job.name, job.label, message)
                case AlteredFound(notice=str(notice)) | StageEvent(event=Notice(notice)):
                    self._reporter.notice(notice)
                case StageEvent(stage, key, Evaluated(evaluation, steps=steps)):
                    self._reporter.update(job.name, job.label, stage, evaluation.step, steps)
                    self._reporter.candidates(evaluation.candidates, key)
                case StageEvent(stage, key, Ranked(candidates, step, steps)):
                    self._reporter.update(job.name, job.label, stage, step, steps)
                    self._reporter.candidates(candidates, key)
                case StageEvent(stage, _, StepsDone(step, steps)):
                    self._reporter.update(job.name, job.label, stage, step, steps)

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
