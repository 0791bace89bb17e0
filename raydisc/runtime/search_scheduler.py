"""The rules by which the searches of an experiment file stop trials. Import this inside a ``ray_session``."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from raydisc.config.experiment import Experiment
from raydisc.forecast.dry_run import Forecast, Forecaster
from raydisc.runs.proposals import Curve
from raydisc.runs.sources import Asked
from raydisc.schedules.base import Trial
from raydisc.stages.kinds import kind_named
from raydisc.stages.problem import Subject

_BEYOND = 1e6
"""How much dearer than the dearest example the last rung of all is, at which Tune would stop any trial."""

Search = tuple[str, str, float, int | None, int]
"""What distinguishes one search from others: schedule, options, student, and the seeds of teacher and trials."""


class SearchScheduler(FIFOScheduler):
    """Lets the rule of each search decide on the search's trials, by the students' evaluations alone.

    A trial that had ended before the driver began is judged by what is known of it, as it was then.

    Args:
        rules: The schedulers of Tune that decide, each with ``flops`` as its measure of time.
        earlier: Returns the evaluations of a trial that had ended before, by its name; none for others.
    """

    def __init__(self, rules: Mapping[Search, TrialScheduler], earlier: Callable[[str], Curve]) -> None:
        """Start with nothing seen."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._rules, self._earlier = rules, earlier
        self._known: dict[str, Curve] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Pass on what the rules decide by."""
        return all(rule.set_search_properties(metric, mode, **spec) for rule in self._rules.values())

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that there is a trial, and of one that had ended before all evaluations."""
        rule, own = self._rule_of(trial)
        if rule is None:
            return
        rule.on_trial_add(tune_controller, trial)
        self._known[own.name] = self._earlier(own.name)
        for flops, metric in self._known[own.name]:
            point = {"flops": flops, "metric": metric}
            if rule.on_trial_result(tune_controller, trial, point) == TrialScheduler.STOP:
                break

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pass on an evaluation of a student, and return what the rule decides."""
        rule, own = self._rule_of(trial)
        if rule is None or not result["of_student"] or self._known[own.name]:
            return str(TrialScheduler.CONTINUE)
        return str(rule.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass on that a trial has ended with an evaluation of its student."""
        rule, _ = self._rule_of(trial)
        if rule is not None and result["of_student"]:
            rule.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that a trial has failed."""
        rule, _ = self._rule_of(trial)
        if rule is not None:
            rule.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Pass on that a trial is given up."""
        rule, _ = self._rule_of(trial)
        if rule is not None:
            rule.on_trial_remove(tune_controller, trial)

    def _rule_of(self, trial: Any) -> tuple[TrialScheduler | None, Trial]:
        own: Trial = trial.config["job"].trial
        return self._rules.get(_search(own)), own


def scheduler_of(
    experiment: Experiment, subject: Subject, searches: Sequence[Asked], earlier: Callable[[str], Curve]
) -> SearchScheduler | None:
    """Return what stops the trials of an experiment's searches; None if no search stops any.

    Args:
        experiment: The experiment.
        subject: Its task and its teacher.
        searches: Its searches.
        earlier: See ``SearchScheduler``.
    """
    stopping = [asked for asked in searches if asked.schedule.stopping is not None]
    if not stopping:
        return None
    with tempfile.TemporaryDirectory(prefix="raydisc-rungs-") as scratch:
        forecaster = Forecaster(experiment, subject, Path(scratch))
        rules = {_search(asked.examples()[0]): _rule(asked, _costs(asked, forecaster)) for asked in stopping}
    return SearchScheduler(rules, earlier)


def _search(trial: Trial) -> Search:
    return trial.schedule.name, trial.schedule.options.model_dump_json(), trial.student_scale, *trial.replicate


def _costs(asked: Asked, forecaster: Forecaster) -> list[float]:
    """Return the FLOPs of trials at the ends of a search's space, without what all trials share."""
    return [_own_flops(way) for trial in asked.examples() for way in forecaster.forecasts(trial)]


def _own_flops(way: Forecast) -> float:
    return sum(
        stage.artifact.flops
        for stage in way.needed
        if not stage.request.prepares and not kind_named(stage.request.kind).tests
    )


def _rule(asked: Asked, costs: Sequence[float]) -> TrialScheduler:
    """Return the scheduler of Tune for the rule of a search, given what trials of its space cost."""
    stopping = asked.schedule.stopping
    assert stopping is not None
    if stopping.asha is not None:
        first, last = int(stopping.asha.first * min(costs)), int(_BEYOND * max(costs))
        return ASHAScheduler(time_attr="flops", max_t=last, grace_period=first, reduction_factor=stopping.asha.factor)
    assert stopping.median is not None
    first = int(stopping.median.first * min(costs))
    return MedianStoppingRule(time_attr="flops", grace_period=first, min_samples_required=stopping.median.trials)
