"""Schedules that lie outside raydisc, beside that of `tests/unit/outside`: their contract, plans and reports."""

from inspect import signature
from pathlib import Path

import pytest
from raydisc_outside.schedule import Midway
from repeated import Repeated
from stepwise import Stepwise
from tiny_runs import tiny_experiment

from raydisc.config.schedules import ScheduleOptions
from raydisc.report.schedules import mark_of, schedule_order, title_of
from raydisc.runtime.planning import forecast
from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Mark, Trial
from raydisc.schedules.minidisc import MinidiscOptions
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import expand
from raydisc.stages.artifact import Model
from raydisc.testing.runs import STUDENT_SCALE, run_trial
from raydisc.testing.schedules import ScheduleContract

pytestmark = pytest.mark.integration


class TestRepeated(ScheduleContract):
    @pytest.fixture(params=[0.01, 0.4, 3.0])
    def schedule(self, request):
        with SCHEDULES.registering(Repeated):
            yield Repeated(MinidiscOptions(lam=request.param))


class TestStepwise(ScheduleContract):
    @pytest.fixture
    def schedule(self):
        with SCHEDULES.registering(Stepwise):
            yield Stepwise(ScheduleOptions())


def test_a_supernet_is_cut_from_an_assistant_and_trained_towards_it(tmp_path):
    trial = Trial(Stepwise(ScheduleOptions()), STUDENT_SCALE, 0)
    stages = run_trial(tiny_experiment(), trial, tmp_path).stages
    [(_, first), (second, _)] = [stage for stage in stages if stage[0].kind == "once_for_all"]
    learned = next(stage for stage, artifact in stages if artifact == second.outputs)
    assert (second.origin, learned.teacher) == (Model(first, 0.9), Model(first, 0.9))
    assert second.scales == (0.7, 0.5, 0.4, STUDENT_SCALE)


class Further(Midway):
    """A student that is trained again, from the weights that it had."""

    name = "further"

    def run(self, search):
        ready = yield from search.prepare()
        first = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale)
        student = yield from search.distil(ready, ready.teacher, Model(first), search.student_scale)
        return Outcome(student, (), "student")


class TestFurther(ScheduleContract):
    @pytest.fixture
    def schedule(self):
        with SCHEDULES.registering(Further):
            yield Further(ScheduleOptions())


class Surprising(Midway):
    """A choice that ``choices`` does not list: no assistant is taken only where no metric is above 0."""

    name = "surprising"

    def run(self, search):
        ready = yield from search.prepare()
        supernet = yield from search.once_for_all(ready, search.assistant_scales)
        found = any(row["metric"] > 0 for row in supernet["candidates"])
        teacher = Model(supernet, search.assistant_scales[0]) if found else ready.teacher
        student = yield from search.distil(ready, teacher, Model(supernet), search.student_scale)
        return Outcome(student, (), "supernet", supernet)


def test_the_contract_says_what_to_do_about_a_path_that_is_not_foreseen(tmp_path):
    experiment, schedule = tiny_experiment(), Surprising(ScheduleOptions())
    [trial] = schedule.trials(tuple(experiment.grid.scales[:-1]), STUDENT_SCALE, 0)
    ran = run_trial(experiment, trial, tmp_path)
    with pytest.raises(AssertionError, match="does not foresee this path: does `choices` list it"):
        ScheduleContract().test_the_plan_is_what_is_run(ran, experiment, tmp_path / "plan")


class Wasteful(Midway):
    name = "wasteful"

    def run(self, search):
        ready = yield from search.prepare()
        yield from search.distil(ready, ready.teacher, ready.teacher, 0.9)
        return (yield from super().run(search))


class Restless(Midway):
    name = "restless"
    runs = 0

    def run(self, search):
        Restless.runs += 1
        ready = yield from search.prepare()
        scale = (0.5, 0.7)[Restless.runs % 2]
        assistant = yield from search.distil(ready, ready.teacher, ready.teacher, scale)
        return Outcome(assistant, (), "teacher")


class Filing(Midway):
    name = "filing"

    def run(self, search):
        Path("notes").write_text("begun")
        return (yield from super().run(search))


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (Wasteful, "test_what_it_asks_for_is_what_it_is_charged"),
        (Restless, "test_it_asks_for_the_same_stages_every_time"),
        (Restless, "test_the_student_comes_last"),
        (Filing, "test_it_knows_neither_ray_nor_devices_nor_files"),
    ],
)
def test_the_contract_notices_a_schedule_that_breaks_it(kind, broken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment, schedule = tiny_experiment(), kind(ScheduleOptions())
    [trial] = schedule.trials(tuple(experiment.grid.scales[:-1]), STUDENT_SCALE, 0)
    given = {"experiment": experiment, "schedule": schedule, "ran": run_trial(experiment, trial, tmp_path)}
    test = getattr(ScheduleContract(), broken)
    with pytest.raises(AssertionError):
        test(**{name: given[name] for name in signature(test).parameters})


def test_an_experiment_names_it_and_its_controls_stand_beside_it():
    with SCHEDULES.registering(Repeated):
        trials = expand(tiny_experiment(schedules=["kd", {"repeated": {"lam": 0.5}}]), [STUDENT_SCALE])
    assert [trial.name for trial in trials] == [
        "kd-to-0.25-seed-0", "repeated-lam-0.5-to-0.25-seed-0", "kd_equal_compute-of-repeated-lam-0.5-to-0.25-seed-0",
    ]  # fmt: skip


def test_a_plan_shows_it_with_the_range_of_its_costs():
    with SCHEDULES.registering(Repeated), SCHEDULES.registering(Midway):
        plan = forecast(tiny_experiment(schedules=["midway", "repeated"]), 1, "1GiB")
    rows = {row["schedule"]: row for row in plan["schedules"]}
    # "repeated" says nothing of its place, so that it stands last
    assert list(rows) == ["kd_equal_compute", "midway", "minidisc", "maxidisc", "repeated"]
    assert rows["midway"]["assistants"] == [[0.5]]
    assert rows["midway"]["asked"]
    assert rows["repeated"]["assistants"][0] == []
    assert rows["repeated"]["flops"]["low"] < rows["repeated"]["flops"]["expected"] < rows["repeated"]["flops"]["high"]


def test_reports_know_it_where_it_is_installed_and_do_without_where_it_is_not():
    with SCHEDULES.registering(Midway):
        assert (schedule_order("midway"), title_of("midway")) == ((45, "midway"), "Midway")
        assert mark_of("midway") == Midway.mark
        assert schedule_order("takd") < schedule_order("midway") < schedule_order("minidisc")
    assert title_of("midway") == "midway"
    assert mark_of("midway") == Mark("black", "x")
    assert schedule_order("midway") > schedule_order("maxidisc")
