"""``raydisc recommend``: what it understands of a budget, and what it runs and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from raydisc.cli.main import main
from raydisc.config.experiment import Experiment
from raydisc.runtime import planning
from raydisc.testing.runs import tiny_experiment

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
PAGE = {"run": "r", "student_scale": 0.1, "teacher_seed": None, "seed": 0, "sentences": ["Ship the student of r."]}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Experiment]:
    """The experiments that are handed to the driver, which runs nothing."""
    monkeypatch.chdir(tmp_path)
    found: list[Experiment] = []

    def run_experiment(experiment: Experiment, reporter: Any) -> SimpleNamespace:
        found.append(experiment)
        return SimpleNamespace(failures=[], following=[], places={"students": "s"}, show={"recommendations": [PAGE]})

    parts: dict[str, dict[str, Any]] = {
        "raydisc.runtime.driver": {"run_experiment": run_experiment},
        "raydisc.report.live.reporter": {"LiveReporter": lambda plain: None},
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return found


def budget(experiment: Experiment) -> float:
    [schedule] = experiment.schedules
    assert schedule.name == "recommend"
    return float(schedule.options.model_dump()["budget_flops"])


def test_flops_take_the_place_of_the_schedules(ran: list[Experiment], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(QUICKSTART), "--flops", "5e12"]) == 0
    assert (ran[0].name, budget(ran[0])) == ("quickstart-recommend", 5e12)
    printed = capsys.readouterr()
    assert printed.err == "budget: 5e+12 FLOPs\n"
    assert "r: recommended student at scale 0.1 (seed 0)\nShip the student of r." in printed.out
    assert "students: s" in printed.out


def test_a_budget_is_shared_by_students_teachers_and_seeds(
    ran: list[Experiment], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--flops", "6e12", "--set", "seeds=[0, 1, 2]", "--name", "mine", "--json"]
    assert main(["recommend", str(QUICKSTART), *words]) == 0
    assert (ran[0].name, budget(ran[0])) == ("mine", 2e12)
    printed = capsys.readouterr()
    assert "2e+12 for each of 3 students, teachers and seeds" in printed.err
    assert json.loads(printed.out) == [PAGE]


def test_options_and_the_name_that_are_given_stay(ran: list[Experiment]) -> None:
    words = ["--set", "schedules=[{recommend: {budget_flops: 1.0, arms: [kd, takd]}}]", "--set", "name=other"]
    assert main(["recommend", str(QUICKSTART), "--flops", "1e12", *words]) == 0
    assert ran[0].name == "other"
    assert ran[0].schedules[0].options.model_dump()["arms"] == ["kd", "takd"]


@pytest.mark.parametrize(
    ("words", "hours"), [(["--hours", "2"], 2), (["--money", "12", "--price", "3"], 4)], ids=["hours", "money"]
)
def test_hours_and_money_become_flops(
    ran: list[Experiment],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    hours: int,
) -> None:
    monkeypatch.setattr(planning, "measured_rate", lambda experiment: 1e9)
    assert main(["recommend", str(QUICKSTART), *words]) == 0
    assert budget(ran[0]) == hours * 3600e9
    assert f"{hours} hours of one device at 1e+09 FLOPs a second, measured here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flops", "0"], "`--flops` must be a number above 0, but is 0"),
        (["--hours", "inf"], "`--hours` must be a number above 0, but is inf"),
        (["--money", "5"], "`--money` needs `--price`, the price of a device-hour, to know how many hours it buys"),
        (["--flops", "5", "--price", "2"], "`--price` belongs to `--money`, but the budget is given in other units"),
    ],
)
def test_what_is_not_a_budget_is_refused(
    ran: list[Experiment], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["recommend", str(QUICKSTART), *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"raydisc: {message}")
    assert printed.err.count("\n") == 1
    assert not ran


def test_the_rate_is_measured_in_steps_of_kd() -> None:
    assert 1e5 < planning.measured_rate(tiny_experiment()) < 1e14
