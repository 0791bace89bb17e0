"""What ``raydisc plan`` says of a search, whose trials nobody knows: bounds that hold."""

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import STUDENT_SCALE, tiny_experiment

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.forecast.devices import given_devices
from raydisc.forecast.dry_run import Forecaster, search_cost
from raydisc.forecast.plan import make_plan
from raydisc.runs.proposals import TrialResult
from raydisc.runs.sources import asked_of
from raydisc.runs.study import SEARCH
from raydisc.stages.problem import inspect
from raydisc.storage.folder import Storage

pytestmark = pytest.mark.integration

SPACE = {
    "path": {"assistants": 2},
    "lam": {"low": 0.0, "high": 0.5},
    "distillation.epochs": {"low": 0.5, "high": 2.0},
    "distillation.lr": {"low": 1e-4, "high": 1e-2},
}


def searching(folder: Path, **options: Any) -> Experiment:
    schedule = ScheduleConfig.model_validate({"optuna": {"trials": 6, "sampler": "random", "space": SPACE, **options}})
    return tiny_experiment(schedules=[ScheduleConfig(name="kd", options=kd()), schedule], storage=str(folder))


def kd() -> Any:
    return ScheduleConfig.model_validate("kd").options


def test_what_a_search_costs_lies_within_the_bounds(tmp_path: Path) -> None:
    experiment = searching(tmp_path)
    plan = make_plan(experiment, given_devices(1, "80GiB"))
    [row] = [row for row in plan["schedules"] if row["schedule"] == "optuna"]
    assert (row["trials"], row["asked"], row["lam"]) == (6, True, None)
    assert row["flops"]["low"] < row["flops"]["expected"] < row["flops"]["high"]

    subject = inspect(experiment)
    [asked] = asked_of(experiment, subject, [STUDENT_SCALE], Storage(tmp_path))
    study, forecaster = SEARCH.begin(asked), Forecaster(experiment, subject, tmp_path / "scratch")
    ways = []
    while (trial := study.next()) is not None:
        ways += forecaster.forecasts(trial)[:1]
        study.tell(trial, TrialResult("finished", 0.5))
    assert len(ways) == 6
    cost = search_cost(
        {stage.key: stage for way in ways for stage in way.stages}.values(), [end for it in ways for end in it.ends]
    )
    assert row["flops"]["low"] <= cost.flops <= row["flops"]["high"]


def test_the_whole_run_has_the_search_in_it(tmp_path: Path) -> None:
    few, many = (make_plan(searching(tmp_path, trials=trials), given_devices(1, "80GiB")) for trials in (2, 4))
    for bound in ("low", "expected", "high"):
        of_search = [plan["schedules"][-1]["flops"][bound] for plan in (few, many)]
        assert few["schedules"][-1]["schedule"] == "optuna"
        more = many["experiment"]["flops"][bound] - few["experiment"]["flops"][bound]
        assert more > of_search[1] - of_search[0] > 0, "with the tests of the students"
    assert many["experiment"]["stages"] > few["experiment"]["stages"]
