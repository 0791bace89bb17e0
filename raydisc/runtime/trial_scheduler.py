"""Schedulers of Ray Tune that end trials early. Import this inside a ``ray_session``, as Tune is."""

from typing import Any

import ray
from ray.tune.schedulers import FIFOScheduler, HyperBandScheduler, PopulationBasedTraining, TrialScheduler

from raydisc.errors import InputError
from raydisc.runs.jobs import Job
from raydisc.runtime.reports import MetricReport, from_result

_TELL_S = 1.0
"""The most seconds for which the driver waits for ``HotCopies``, which may be being restarted, to hear of an end."""


class JobScheduler(FIFOScheduler):
    """Lets a scheduler of Tune decide by the metric reports of trials, and asks the trials that it ends to stop.

    The scheduler sees the trials of schedules alone, neither the other jobs of a run nor controls, and of their reports
    the evaluations alone, with ``training_iteration`` as the number of the evaluation. Tune would end a trial's process
    or leave it within a step; a trial that is asked to stop notes where it was. A trial that crashes before it could is
    ended again, at the same evaluation.

    Args:
        scheduler: Decides; one that stops trials, such as ``ASHAScheduler`` or ``MedianStoppingRule``.
        copies: The handle of the ``HotCopies`` actor, which trials ask whether they are ended.

    Raises:
        InputError: The scheduler would pause trials or change them, or has a metric or mode of its own.
    """

    def __init__(self, scheduler: TrialScheduler, copies: Any) -> None:
        """Start with no trial ended."""
        super().__init__()  # type: ignore[no-untyped-call]
        refuse_unsuitable(scheduler)
        if not scheduler.set_search_properties("metric", "max"):
            raise InputError(
                f"trial_scheduler: give the {type(scheduler).__name__} neither a metric nor a mode; it decides by the "
                "validation metric, of which more is better"
            )
        self._scheduler, self._copies = scheduler, copies
        self._seen: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, int] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that there is a trial."""
        if _decides(trial):
            self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pass on an evaluation, and end the trial if the scheduler would."""
        job: Job = trial.config["job"]
        report = from_result(result)
        if not _decides(trial) or not isinstance(report, MetricReport):
            return str(TrialScheduler.CONTINUE)
        seen_before = self._seen.get(job.name, {"evaluation": 0})["evaluation"]
        if report.evaluation > seen_before and job.name not in self._ended:
            seen = self._seen[job.name] = {**result, "training_iteration": report.evaluation}
            if self._scheduler.on_trial_result(tune_controller, trial, seen) == TrialScheduler.STOP:
                self._ended[job.name] = report.evaluation
        if job.name in self._ended:
            # known before the trial goes on, which waits for this report
            ray.wait([self._copies.end.remote(job.name, self._ended[job.name])], timeout=_TELL_S)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass on that a trial has ended, with its last evaluation, if the scheduler has seen any."""
        last = self._seen.get(trial.config["job"].name)
        if _decides(trial) and last is not None:
            self._scheduler.on_trial_complete(tune_controller, trial, last)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that a trial has failed."""
        if _decides(trial):
            self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that a trial is given up."""
        if _decides(trial):
            self._scheduler.on_trial_remove(tune_controller, trial)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to keep: what Tune keeps of a run is never restored."""
        return {}


def refuse_unsuitable(scheduler: object) -> None:
    """Refuse a scheduler that does more than to stop trials.

    Raises:
        InputError: It would pause trials or change them.
    """
    if isinstance(scheduler, HyperBandScheduler | PopulationBasedTraining) or not isinstance(scheduler, TrialScheduler):
        raise InputError(
            f"trial_scheduler is a {type(scheduler).__name__}, but should be a scheduler of Ray Tune that only stops "
            "trials, such as ASHAScheduler or MedianStoppingRule"
        )


def _decides(trial: Any) -> bool:
    """Whether a trial of Tune is a trial of a schedule that may be ended."""
    job: Job = trial.config["job"]
    return job.is_trial and job.trial is not None and not job.trial.schedule.is_control
