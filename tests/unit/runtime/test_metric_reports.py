"""Reports of evaluations, by which schedulers of Tune decide; and jobs that come while others run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule, PopulationBasedTraining
from tiny_schedules import kd_trial

from raydisc.errors import InputError
from raydisc.runs.jobs import Job
from raydisc.runs.proposals import TrialResult
from raydisc.runtime.job_searcher import JobSearcher
from raydisc.runtime.metric_reports import MetricReports
from raydisc.runtime.reports import JobEnded, MetricReport, to_result
from raydisc.runtime.trial_scheduler import JobScheduler, refuse_unsuitable
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.executor import StageEvent
from raydisc.training.loop import never
from raydisc.training.progress import Evaluated, Evaluation, StepsDone


class Computed:
    """A stage of a kind that is, or is not, a part of the preparation."""

    def __init__(self, kind: str, prepares: bool = False) -> None:
        self.kind, self.prepares = kind, prepares


def artifact(key: str, metrics: dict[int | None, list[float]]) -> Artifact:
    rows = [
        {"split": "validation", "step": step, "metric": metric, "se": 0.0}
        for step, found in metrics.items()
        for metric in found
    ]
    return Artifact(key, "distil", facts={"evaluations": rows})


class Heard:
    def __init__(self, ends_at: int | None = None) -> None:
        self.reports: list[MetricReport] = []
        self.metrics = MetricReports(self.reports.append, lambda number: ends_at is not None and number >= ends_at)

    @property
    def values(self) -> list[tuple[str, int, float]]:
        return [(report.key, report.evaluation, round(report.metric, 6)) for report in self.reports]


SUPERNET = artifact("s", {3: [0.5, 0.7], None: [0.6, 0.8]})
STUDENT = artifact("d", {2: [0.3], 4: [0.4], None: [0.4]})
EXPECTED = [("s", 1, 0.6), ("s", 2, 0.7), ("d", 3, 0.3), ("d", 4, 0.4), ("d", 5, 0.4)]


def evaluated(heard: Heard, key: str, number: int, metric: float) -> None:
    heard.metrics.progress(StageEvent("distil", key, Evaluated(Evaluation(7, metric, 0.1), number, 20)))


def test_every_evaluation_is_reported_once_as_it_comes() -> None:
    heard = Heard()
    heard.metrics.finished(Computed("finetune", prepares=True), artifact("t", {None: [0.9]}))  # type: ignore[arg-type]
    evaluated(heard, "s", 1, 0.6)
    heard.metrics.progress(StageEvent("distil", "s", StepsDone(8, 20)))
    heard.metrics.finished(Computed("once_for_all"), SUPERNET)  # type: ignore[arg-type]
    evaluated(heard, "d", 1, 0.3)
    evaluated(heard, "d", 2, 0.4)
    heard.metrics.finished(Computed("distil"), STUDENT)  # type: ignore[arg-type]
    heard.metrics.finished(Computed("distil"), STUDENT)  # type: ignore[arg-type]
    assert heard.values == EXPECTED
    assert heard.metrics.last == 0.4


def test_numbers_are_the_same_where_stages_are_found_or_resumed() -> None:
    found = Heard()
    for kind, made in (("once_for_all", SUPERNET), ("distil", STUDENT)):
        found.metrics.finished(Computed(kind), made)  # type: ignore[arg-type]
    resumed = Heard()
    resumed.metrics.finished(Computed("once_for_all"), SUPERNET)  # type: ignore[arg-type]
    evaluated(resumed, "d", 2, 0.4)  # the first was before the process
    resumed.metrics.finished(Computed("distil"), STUDENT)  # type: ignore[arg-type]
    assert found.values == EXPECTED
    assert [number for _, number, _ in resumed.values] == [1, 2, 4, 5]


def test_a_report_has_the_flops_until_then_and_whether_it_is_of_the_student() -> None:
    class Asked(Computed):
        def __init__(self, kind: str, scale: float) -> None:
            super().__init__(kind)
            self.scale = scale

    reports: list[MetricReport] = []
    metrics = MetricReports(reports.append, lambda evaluation: False, student_scale=0.25)
    assistant, student = Asked("distil", 0.5), Asked("distil", 0.25)

    def steps() -> Any:
        yield assistant
        yield student

    heard = metrics.heard(steps())
    made = replace(artifact("a", {2: [0.5], None: [0.6]}), cost=Cost(flops=100.0))
    next(heard)
    metrics.finished(assistant, made)  # type: ignore[arg-type]
    heard.send(made)
    metrics.progress(StageEvent("distil", "d", Evaluated(Evaluation(7, 0.3, 0.1), 1, 20, flops=25.0)))
    assert [(it.flops, it.of_student) for it in reports] == [(100.0, False), (100.0, False), (125.0, True)]
    assert (metrics.curve, metrics.flops) == ([(125.0, 0.3)], 125.0)


def test_a_trial_that_is_ended_stays_so_with_the_metric_that_it_had() -> None:
    heard = Heard(ends_at=1)
    evaluated(heard, "d", 1, 0.3)
    assert heard.metrics.ended
    evaluated(heard, "d", 2, 0.4)
    assert heard.metrics.ended
    assert heard.metrics.last == 0.3
    assert len(heard.reports) == 1


def test_a_trial_that_is_tried_again_is_ended_where_it_was_and_not_before() -> None:
    heard = Heard(ends_at=4)
    heard.metrics.finished(Computed("once_for_all"), SUPERNET)  # type: ignore[arg-type]
    assert not heard.metrics.ended
    evaluated(heard, "d", 2, 0.4)  # the last of its checkpoint
    assert heard.metrics.ended
    assert heard.metrics.last == 0.4


@pytest.mark.parametrize(
    "scheduler", [HyperBandScheduler(), PopulationBasedTraining(hyperparam_mutations={"lr": [1, 2]}), object()]
)
def test_schedulers_that_do_more_than_to_stop_trials_are_refused(scheduler: object) -> None:
    with pytest.raises(InputError, match="should be a scheduler of Ray Tune that only stops trials"):
        refuse_unsuitable(scheduler)
    refuse_unsuitable(ASHAScheduler())


class Growing:
    """One trial, and another one after the first has ended; the source may fail then."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.over = fails, False
        self.results: list[tuple[str, TrialResult]] = []
        self.new = [Job("first", "", trial=kd_trial(0.25))]

    def more(self) -> list[Job]:
        new, self.new = self.new, []
        return new

    def ended(self, job: Job, result: TrialResult) -> None:
        self.results.append((job.name, result))
        if self.fails:
            raise ValueError("broken")
        if len(self.results) == 1:
            self.new = [Job("second", "", after=("first",), trial=kd_trial(0.25, 1))]
        self.over = len(self.results) == 2


def test_jobs_that_are_planned_later_are_handed_out_and_results_passed_on() -> None:
    source = Growing()
    searcher = JobSearcher(source, lambda: 9, never)
    assert searcher.suggest("a")["job"].name == "first"
    assert searcher.suggest("b") is None, "neither another job nor the end"
    searcher.on_trial_complete("a", to_result(JobEnded("said", 0.5, stopped_early=True)))
    given = searcher.suggest("b")
    assert (given["job"].name, given["inherited_failure"], given["inherited_stop"]) == ("second", None, False)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("b", error=True)
    assert searcher.suggest("c") == JobSearcher.FINISHED
    assert source.results == [
        ("first", TrialResult("stopped early", 0.5, "said")),
        ("second", TrialResult("failed", None, "its process died")),
    ]


def test_a_control_of_a_stopped_trial_is_not_run() -> None:
    class Known(Growing):
        def __init__(self) -> None:
            super().__init__()
            control = Job("control", "", needs=("first",), trial=kd_trial(0.25, 1))
            self.new.append(control)

    searcher = JobSearcher(Known(), lambda: 9, never)
    searcher.suggest("a")
    searcher.on_trial_complete("a", to_result(JobEnded(stopped_early=True)))
    assert searcher.suggest("b")["inherited_stop"]


def test_an_error_of_the_source_ends_the_run_and_is_no_trial_s() -> None:
    searcher = JobSearcher(Growing(fails=True), lambda: 9, never)
    searcher.suggest("a")
    searcher.on_trial_complete("a", to_result(JobEnded()))
    assert isinstance(searcher.error, ValueError)
    assert searcher.suggest("b") == JobSearcher.FINISHED


@pytest.mark.parametrize("own", [{"metric": "accuracy", "mode": "max"}, {"mode": "max"}])
def test_a_scheduler_with_a_metric_or_mode_of_its_own_is_refused(own: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give the AsyncHyperBandScheduler neither a metric nor a mode"):
        JobScheduler(ASHAScheduler(**own), None)


def test_the_end_of_a_trial_without_an_evaluation_does_not_reach_the_scheduler() -> None:
    scheduler = JobScheduler(MedianStoppingRule(grace_period=1, min_samples_required=1), None)
    trials = [TuneTrial("run_job", stub=True) for _ in range(2)]
    for seed, trial in enumerate(trials):
        trial.config["job"] = Job(f"kd-{seed}", "kd", trial=kd_trial(seed))
        scheduler.on_trial_add(None, trial)
    scheduler.on_trial_complete(None, trials[0], {})
    for evaluation in (1, 2):
        report = to_result(MetricReport("distil", "k", evaluation, 0.5))
        assert scheduler.on_trial_result(None, trials[1], report) == "CONTINUE"


def test_tune_may_pickle_a_searcher_whose_source_writes_to_a_stream_of_its_own(tmp_path: Path) -> None:
    class Writing:
        over = True
        stream = (tmp_path / "output").open("w")

        def more(self) -> list[Job]:
            return []

        def ended(self, job: Job, result: TrialResult) -> None:
            self.stream.write(job.name)

    assert cloudpickle.dumps(JobSearcher(Writing(), lambda: 1, never))
