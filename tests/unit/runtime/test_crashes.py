"""Crashes of a trial count only while it gets no further."""

import pytest
from ray.tune.experiment import Trial

from raydisc.runtime.callbacks.retries import CRASHES_FORGIVEN, Forgiveness
from raydisc.runtime.reports import AlteredFound, JobStopped, Report, to_result
from raydisc.stages.executor import StageEvent
from raydisc.training.progress import StepsDone


def crashes_left(forgiveness: Forgiveness, trial: Trial, report: Report) -> int:
    """The crashes that still count after a report."""
    trial.run_metadata.num_failures = CRASHES_FORGIVEN
    forgiveness.on_trial_result(0, [trial], trial, to_result(report))
    left: int = trial.run_metadata.num_failures
    return left


def test_getting_further_forgets_crashes_and_repeating_does_not() -> None:
    forgiveness, trial = Forgiveness(), Trial("run_job", stub=True)

    def crashes_left_after(key: str, step: int) -> int:
        return crashes_left(forgiveness, trial, StageEvent(key, key, StepsDone(step)))

    assert crashes_left_after("finetune", 5) == 0
    assert crashes_left_after("finetune", 5) == CRASHES_FORGIVEN, "it is where it was"
    assert crashes_left_after("finetune", 3) == CRASHES_FORGIVEN, "it goes on from its checkpoint"
    assert crashes_left_after("finetune", 6) == 0
    assert crashes_left_after("importance", 0) == 0
    assert crashes_left_after("finetune", 9) == CRASHES_FORGIVEN, "a stage before the last one"


@pytest.mark.parametrize("report", [AlteredFound("a"), AlteredFound("a", "it is computed again"), JobStopped("asked")])
def test_an_altered_artifact_or_a_stop_is_not_progress(report: Report) -> None:
    assert crashes_left(Forgiveness(), Trial("run_job", stub=True), report) == CRASHES_FORGIVEN
