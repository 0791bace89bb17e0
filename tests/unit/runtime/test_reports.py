"""Reports of jobs are records on both sides of Tune, and plain values between them."""

import json
import math
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from raydisc.config.resources import BudgetConfig
from raydisc.report.ledger import Ledger
from raydisc.runs.budget import Spending
from raydisc.runs.jobs import Job
from raydisc.runtime.callbacks.stopping import Overseer
from raydisc.runtime.reports import (
    AlteredFound,
    JobEnded,
    JobStopped,
    MetricReport,
    Report,
    from_result,
    to_result,
)
from raydisc.stages.executor import StageEvent
from raydisc.training.progress import (
    Alive,
    Evaluated,
    Evaluation,
    Event,
    Notice,
    Ranked,
    ScoredCandidate,
    StepsDone,
)

CANDIDATES = (ScoredCandidate(0.5, 0.5, 7, 1.0, 0.9, 0.1), ScoredCandidate(0.25, 0.25, 3, 1.0, 0.8, 0.1))
EVENTS: list[Event] = [
    StepsDone(3, 7, 0.25),
    StepsDone(0),
    Evaluated(Evaluation(3, 0.5, 0.1), 1, 7),
    Evaluated(Evaluation(3, 0.85, candidates=CANDIDATES), 2, 7),
    Ranked(CANDIDATES, 7, 7),
    Notice("slow"),
    Alive(),
]
REPORTS: list[Report] = [
    *(StageEvent("distil", "k", event) for event in EVENTS),
    MetricReport("distil", "k", 3, 0.5),
    AlteredFound("k"),
    AlteredFound("k", "it is computed again"),
    JobStopped("stopped at step 3 of 7"),
    JobEnded("validation 0.500", 0.5),
    JobEnded(failure="no room"),
]
FROM_TUNE = {"training_iteration": 4, "done": False, "trial_id": "a", "config": {"job": None}, "time_total_s": 1.5}


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_comes_back_as_it_was_whatever_tune_adds(report: Report) -> None:
    result: dict[str, Any] = json.loads(json.dumps(to_result(report)))
    assert not set(result) & set(FROM_TUNE)
    assert from_result({**result, **FROM_TUNE}) == report
    assert from_result(flatten_dict({**result, **FROM_TUNE})) == report, "as searchers and schedulers see it"


def test_a_metric_that_is_not_a_number_comes_back() -> None:
    found = from_result(to_result(MetricReport("distil", "k", 1, math.nan)))
    assert isinstance(found, MetricReport)
    assert math.isnan(found.metric)


def test_schedulers_of_tune_see_the_words_that_they_always_saw() -> None:
    assert to_result(MetricReport("distil", "k", 3, 0.5, flops=1e9, of_student=True)) == {
        "report": "metric", "stage": "distil", "key": "k", "evaluation": 3, "metric": 0.5, "flops": 1e9,
        "of_student": True,
    }  # fmt: skip


class Noted(Spending):
    """Spending that notes what it hears."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(BudgetConfig(), ledger, "quick", 0.0)
        self.heard: list[tuple[str, ...]] = []

    def runs(self, job: str, key: str, devices: int) -> None:
        self.heard.append((job, key, str(devices)))

    def ends(self, job: str) -> None:
        self.heard.append((job,))


def test_only_stages_are_charged_and_every_end_of_a_job_ends_it(tmp_path: Any) -> None:
    spending, trial = Noted(Ledger(tmp_path)), Trial("run_job", config={"job": Job("kd", "kd")}, stub=True)
    overseer = Overseer(spending, lambda job: 2, None, lambda: None)
    for report in REPORTS:
        overseer.on_trial_result(0, [trial], trial, to_result(report))
    charged = [("kd", "k", "2")] * (len(EVENTS) + 1)
    assert spending.heard == [*charged, *([("kd",)] * 3)], "an altered artifact is not a stage"
