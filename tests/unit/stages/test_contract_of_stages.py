"""The contract of stages over every kind in the registry."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from raydisc.config.schedules import ScheduleConfig
from raydisc.schedules.steps import scales_above
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.extract import Extract
from raydisc.stages.kinds import STAGES
from raydisc.testing.runs import STUDENT_SCALE, run_trial, tiny_experiment
from raydisc.testing.stages import Example, StageContract, computed

pytestmark = pytest.mark.integration


@cache
def storage() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="raydisc-")


@cache
def examples() -> dict[str, Example]:
    """Return the last stage of each kind of a MiniDisc trial, and two that end other trials."""
    experiment, folder = tiny_experiment(), Path(storage().name)
    schedule = ScheduleConfig.model_validate("minidisc").schedule()
    trial = next(iter(schedule.trials(scales_above(experiment.grid.scales, STUDENT_SCALE), STUDENT_SCALE, 0)))
    ran = run_trial(experiment, trial, folder)
    found = {stage.kind: Example(stage, artifact, folder) for stage, artifact in ran.stages}
    test = Evaluate(found["tokenise"].artifact, ran.outcome.student)
    assert ran.outcome.supernet is not None
    extract = Extract(test.data, found["importance"].artifact, ran.outcome.supernet, STUDENT_SCALE)
    return found | {stage.kind: Example(stage, computed(stage, folder), folder) for stage in (test, extract)}


class TestEveryStage(StageContract):
    @pytest.fixture(params=STAGES.names())
    def example(self, request):
        return examples()[request.param]
