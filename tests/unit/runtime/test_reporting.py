"""The progress that a trial reports of its stage, and the part of it that reaches people."""

import io
import time

import pytest
from ray.tune.experiment import Trial

from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.jobs import Job
from raydisc.runtime.callbacks.progress import ReporterCallback, cause_of_death
from raydisc.runtime.reports import to_result
from raydisc.runtime.trainable import Reporting, report_pause
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

CANDIDATES = (ScoredCandidate(0.5, 0.5, 7, 1.0, 0.9, 0.1),)


def trains(event: Event) -> StageEvent:
    return StageEvent("distil", "a", event)


def test_begins_candidates_and_notices_are_told_at_once_and_steps_now_and_then() -> None:
    told: list[StageEvent] = []
    reporting = Reporting(told.append)
    begins, ends = trains(StepsDone(0, 1000)), StageEvent("evaluate", "b", StepsDone(0))
    reporting(begins)
    for step in range(1, 1000):
        reporting(trains(StepsDone(step, 1000)))
        reporting(trains(Evaluated(Evaluation(step, 0.5, 0.1), step, 1000)))
    at_once = [
        trains(Evaluated(Evaluation(1000, 0.5, candidates=CANDIDATES), 1000, 1000)),
        trains(Ranked(CANDIDATES, 1000, 1000)),
        trains(Notice("slow")),
    ]
    for found in (*at_once, ends):
        reporting(found)
    assert [found for found in told if found in (begins, *at_once, ends)] == [begins, *at_once, ends]
    assert len(told) < 10
    assert reporting.last == ends


def test_a_driver_that_takes_long_to_hear_a_report_is_told_less_often() -> None:
    """A report waits for the driver, so that a full cluster's would otherwise slow down all trials."""
    told: list[float] = []

    def slow(_: StageEvent) -> None:
        told.append(time.monotonic())
        time.sleep(0.05)

    reporting = Reporting(slow)
    end = time.monotonic() + 1.9
    while time.monotonic() < end:
        reporting(trains(StepsDone(1)))
        time.sleep(0.01)
    assert len(told) <= 2  # at two reports a second it would be four


def test_nobody_is_silent_for_long_though_a_report_took_minutes() -> None:
    assert [report_pause(took) for took in (0.001, 0.1, 200.0)] == [0.5, 2.0, 30.0]


def test_a_stage_that_goes_on_without_a_step_leaves_the_picture_as_it_is() -> None:
    stream = io.StringIO()
    reporter = LiveReporter(file=stream)
    callback = ReporterCallback(reporter)
    trial = Trial("run_job", config={"job": Job("kd", "kd")}, stub=True)
    reporter.start("quick", 1)
    for found in (trains(StepsDone(7, 10)), trains(Alive()), StageEvent("evaluate", "b", StepsDone(0))):
        callback.on_trial_result(0, [trial], trial, to_result(found))
    reporter.stop()
    assert [line.partition("] ")[2] for line in stream.getvalue().splitlines()] == [
        "run quick: 1 trials",
        "kd: distil 7/10 (70%)",
        "kd: evaluate",
        "0 of 1 trials finished, 1 running",
    ]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "Failure # 1 (occurred at 2026-11-22_05-15-02)\n1 worker(s) were killed due to the node running low on "
            "memory. Memory on the node (IP: 127.0.0.1, ID: bab4) was 1.37GB used / 23.54GB limit (0.058274)\n"
            "OOM kill reason: Memory usage 1468112896B exceeded threshold of 252765104B",
            "the machine ran out of memory; run fewer trials at once (resources.trials)",
        ),
        ("The actor died because its node has died.", "the log of Ray says why"),
        (None, "the log of Ray says why"),
    ],
)
def test_what_ray_kills_for_want_of_memory_is_named(said: str | None, cause: str) -> None:
    """The first is what Ray 2.60 said of a trial with RAY_memory_usage_threshold=0.01."""
    assert cause_of_death(said).startswith(cause)
