"""The rules that stop the trials of searches, in FLOPs, by the evaluations of students."""

from typing import Any

import pytest
from ray.tune.experiment import Trial as TuneTrial
from tiny_runs import tiny_experiment
from tiny_schedules import kd_trial

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.runs.jobs import Job
from raydisc.runs.proposals import Curve
from raydisc.runs.sources import asked_of
from raydisc.runtime.search_scheduler import SearchScheduler, scheduler_of
from raydisc.schedules.base import Trial
from raydisc.stages.problem import inspect
from raydisc.storage.folder import Storage

SPACE = {"distillation.lr": {"low": 1e-4, "high": 1e-2}}


def experiment_of(tmp_path: Any, **options: Any) -> Experiment:
    schedule = ScheduleConfig.model_validate({"optuna": {"space": SPACE, **options}})
    base = tiny_experiment(schedules=[schedule], storage=str(tmp_path))
    return base.model_copy(update={"distillation": base.distillation.model_copy(update={"patience": 100})})


class Alone:
    """The part of Tune's controller that the median rule asks whether others wait."""

    def get_live_trials(self) -> list[Any]:
        return []


class Tuned:
    """A scheduler and trials that report to it."""

    def __init__(self, tmp_path: Any, earlier: dict[str, Curve] | None = None, **options: Any) -> None:
        experiment = experiment_of(tmp_path, **options)
        subject = inspect(experiment)
        asked = asked_of(experiment, subject, [0.25], Storage(tmp_path))
        found = scheduler_of(experiment, subject, asked, lambda name: (earlier or {}).get(name, ()))
        assert isinstance(found, SearchScheduler)
        self.scheduler, self.asked = found, asked[0]
        assert self.scheduler.set_search_properties("metric", "max")
        [small, _] = asked[0].examples()
        self.example = small

    def trial(self, lr: float) -> Any:
        return self.added(self.example.with_settings({"distillation.lr": lr}))

    def added(self, own: Trial) -> Any:
        trial = TuneTrial("run_job", stub=True)
        trial.config["job"] = Job(own.name, own.name, trial=own)
        self.scheduler.on_trial_add(Alone(), trial)
        return trial

    def report(self, trial: Any, flops: float, metric: float, of_student: bool = True) -> str:
        report = {"report": "metric", "flops": flops, "metric": metric, "of_student": of_student}
        return self.scheduler.on_trial_result(Alone(), trial, report)


def test_halving_keeps_the_better_trials_at_each_rung_of_flops(tmp_path: Any) -> None:
    tuned = Tuned(tmp_path, stopping={"asha": {"first": 0.5, "factor": 2}})
    good, bad, worse = (tuned.trial(lr) for lr in (0.001, 0.002, 0.003))
    assert tuned.report(good, 1e12, 0.9) == "CONTINUE"
    assert tuned.report(bad, 1.0, 0.1) == "CONTINUE", "it has not come to a rung"
    assert tuned.report(bad, 1e12, 0.1, of_student=False) == "CONTINUE", "an assistant is another model"
    assert tuned.report(bad, 1e12, 0.1) == "STOP"
    assert tuned.report(worse, 1e12, 0.05) == "STOP"


def test_a_trial_that_ended_before_is_judged_by_what_is_known_of_it(tmp_path: Any) -> None:
    known = Tuned(tmp_path, stopping="asha")
    best = known.example.with_settings({"distillation.lr": 0.001}).name
    tuned = Tuned(tmp_path, {best: ((1e12, 0.9),)}, stopping="asha")
    trial = tuned.trial(0.001)
    assert tuned.report(trial, 1e12, 0.0) == "CONTINUE"
    assert tuned.report(tuned.trial(0.002), 1e12, 0.5) == "STOP"


def test_the_median_rule_waits_for_enough_trials(tmp_path: Any) -> None:
    tuned = Tuned(tmp_path, stopping={"median": {"trials": 2}})
    first, second, third = (tuned.trial(lr) for lr in (0.001, 0.002, 0.003))
    assert tuned.report(first, 1e12, 0.9) == "CONTINUE"
    assert tuned.report(second, 1e12, 0.1) == "CONTINUE"
    assert tuned.report(third, 1e12, 0.2) == "STOP"


def test_other_trials_are_left_alone(tmp_path: Any) -> None:
    tuned = Tuned(tmp_path, stopping="asha")
    assert tuned.report(tuned.trial(0.001), 1e12, 0.9) == "CONTINUE"
    other = tuned.added(kd_trial(0.25))
    assert tuned.report(other, 1e12, 0.1) == "CONTINUE"
    another_seed = Trial(tuned.example.schedule, 0.25, seed=1)
    assert tuned.report(tuned.added(another_seed), 1e12, 0.1) == "CONTINUE"


def test_a_search_without_a_rule_stops_nothing(tmp_path: Any) -> None:
    experiment = experiment_of(tmp_path)
    subject = inspect(experiment)
    asked = asked_of(experiment, subject, [0.25], Storage(tmp_path))
    assert scheduler_of(experiment, subject, asked, lambda name: ()) is None


@pytest.mark.parametrize(("written", "rule"), [("asha", "asha"), ({"median": {}}, "median")])
def test_a_rule_may_be_named_alone(written: Any, rule: str) -> None:
    config = ScheduleConfig.model_validate({"optuna": {"stopping": written}}).options
    assert config.stopping.model_dump(exclude_none=True).keys() == {rule}  # type: ignore[attr-defined]
