"""Trials that are proposed as results come, and the jobs that are planned for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import tiny_experiment, tokens_known
from tiny_schedules import kd_trial, maxidisc_trial, minidisc_trial

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.report.runs import RunState, read_state
from raydisc.runs.jobs import PREPARE, TEST_OF_TEACHER, Job, Jobs
from raydisc.runs.proposals import Grid, Planner, Proposals, TrialResult
from raydisc.runtime.driver import run_experiment
from raydisc.schedules.base import Control, Trial
from raydisc.schedules.controls import KdEqualCompute
from raydisc.schedules.foresight import foresee
from raydisc.schedules.trials import steps_of
from raydisc.stages.problem import Subject, inspect
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE

DONE = TrialResult("finished", 0.5)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return tiny_experiment()


@pytest.fixture(scope="module")
def subject(experiment: Experiment) -> Subject:
    return inspect(experiment)


Planned = Callable[..., Planner]


@pytest.fixture
def planned(experiment: Experiment, subject: Subject) -> Planned:
    """A planner of proposals whose stages have not been computed."""

    def made(proposals: Proposals, most: int | None = None) -> Planner:
        planner = Planner(proposals, None if isinstance(proposals, Grid) else most)
        planner.begin(Jobs(experiment, subject, ONE_THREAD, tokens_known(experiment, subject), most))
        return planner

    return made


class Doubling:
    """One trial, then two when its result is known, then no more."""

    def __init__(self) -> None:
        self.told: list[tuple[str, TrialResult]] = []
        self.waiting = [maxidisc_trial(STUDENT_SCALE, (0.5,))]

    def next(self) -> Trial | None:
        return self.waiting.pop(0) if self.waiting else None

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self.told.append((trial.name, result))
        if len(self.told) == 1:
            self.waiting = [kd_trial(STUDENT_SCALE), trial.with_settings({"distillation.lr": 0.01})]


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_trials_are_planned_as_they_are_proposed_and_tests_when_no_more_come(planned: Planned) -> None:
    proposals = Doubling()
    planner = planned(proposals)
    first = planner.more()
    assert names(first) == [PREPARE, "maxidisc-via-0.5-to-0.25-seed-0"]
    assert planner.more() == []
    planner.ended(first[0], TrialResult("finished"))
    assert proposals.told == [], "the preparation is not a trial"
    planner.ended(first[1], DONE)
    assert proposals.told == [("maxidisc-via-0.5-to-0.25-seed-0", DONE)]
    second = planner.more()
    assert names(second)[-2:] == ["kd-to-0.25-seed-0", "maxidisc-via-0.5-distillation.lr-0.01-to-0.25-seed-0"]
    assert not planner.over
    for job in second:
        planner.ended(job, DONE)
    tests = planner.more()
    assert planner.over
    assert all(job.test for job in tests)
    assert names(tests)[-1] == TEST_OF_TEACHER
    assert len(tests) == 4
    assert planner.more() == []
    assert [name for name, _ in proposals.told] == [trial.name for trial in planner.trials]
    assert planner.is_done(names([*first, *second, *tests]))
    assert not planner.is_done(names([*first, *second]))


def test_what_an_earlier_trial_computes_is_waited_for_whatever_comes_of_it(planned: Planned) -> None:
    """Two paths that are known at once share a stage of its own; a later one waits for the trial that has it."""
    proposals = Doubling()
    planner = planned(proposals)
    [_, first] = planner.more()
    planner.ended(first, DONE)
    by_name = {job.name: job for job in planner.more()}
    tuned = by_name["maxidisc-via-0.5-distillation.lr-0.01-to-0.25-seed-0"]
    assert first.name in tuned.after, "the teacher's outputs"
    assert first.name not in tuned.needs
    together = planned(
        Grid([maxidisc_trial(STUDENT_SCALE, (0.7, 0.5)), maxidisc_trial(STUDENT_SCALE, (0.7, 0.4))])
    ).more()
    shared = [job for job in together if job.until]
    assert [job.name.split("-")[0] for job in shared] == ["teacher_outputs", "distil", "teacher_outputs"]
    assert all({*names(shared)} <= {*job.needs} for job in together if job.is_trial)


def test_a_budget_of_trials_leaves_the_others_and_all_tests(planned: Planned) -> None:
    trials = [kd_trial(STUDENT_SCALE, seed) for seed in range(3)]
    planner = planned(Grid(trials), most=2)
    jobs = planner.more()
    assert [job.name for job in jobs if job.is_trial] == names_of(trials[:2])
    for job in jobs:
        planner.ended(job, DONE)
    assert planner.more() == []
    assert planner.over
    ended = names(jobs)
    assert planner.is_done(ended)
    assert planner.unfinished(ended) == [
        *names_of(trials[2:]), *(f"test-of-{name}" for name in names_of(trials)), TEST_OF_TEACHER,
    ]  # fmt: skip


class Endless:
    """A further seed whenever it is asked; two at the same time, or as many as may be."""

    def __init__(self, at_once: int | None) -> None:
        self.free, self.seed = at_once, 0

    def next(self) -> Trial | None:
        if self.free == 0:
            return None
        self.free = None if self.free is None else self.free - 1
        self.seed += 1
        return kd_trial(STUDENT_SCALE, self.seed)

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self.free = None if self.free is None else self.free + 1


@pytest.mark.parametrize("at_once", [2, None])
def test_a_budget_of_trials_ends_a_source_that_never_does_and_its_students_are_tested(
    planned: Planned, at_once: int | None
) -> None:
    planner = planned(Endless(at_once), most=3)
    ended: list[str] = []
    while not planner.over:
        jobs = planner.more()
        for job in jobs:
            planner.ended(job, DONE)
        ended += names(jobs)
    trials = names_of([kd_trial(STUDENT_SCALE, seed) for seed in (1, 2, 3)])
    assert names_of(planner.trials) == trials
    assert ended[-4:] == [*(f"test-of-{name}" for name in trials), TEST_OF_TEACHER]
    assert planner.is_done(ended)
    assert planner.unfinished(ended) == [], "so that nothing is said to follow"


def names_of(trials: list[Trial]) -> list[str]:
    return [trial.name for trial in trials]


def test_a_control_waits_for_its_rival_where_there_is_one(planned: Planned) -> None:
    rival = minidisc_trial(STUDENT_SCALE)
    control: Control = KdEqualCompute.of(rival.schedule)
    alone = planned(Grid([Trial(control, STUDENT_SCALE, 0)])).more()
    assert all({*job.needs} <= {*names(alone)} for job in alone)
    beside = planned(Grid([rival, Trial(control, STUDENT_SCALE, 0)])).more()
    assert rival.name in beside[-1].needs


def test_nothing_to_begin_with_and_one_trial_twice_are_refused(planned: Planned) -> None:
    with pytest.raises(InputError, match="no trial is proposed"):
        Planner(Grid([]))
    with pytest.raises(InputError, match="'kd-to-0.25-seed-0' is proposed twice"):
        Planner(Grid([kd_trial(STUDENT_SCALE)] * 2))


def test_a_run_whose_trials_were_proposed_is_not_run_as_its_file_has_it(tmp_path: Path) -> None:
    RunState("reviews", "interrupted", 1, proposals=True).write(tmp_path / "tiny")
    with pytest.raises(InputError) as refused:
        run_experiment(tiny_experiment(name="tiny", storage=str(tmp_path)))
    assert "the trials of the run 'tiny' are proposed by a source in Python" in str(refused.value)
    assert "`raydisc.run(experiment, proposals=...)`" in str(refused.value)
    state = read_state(tmp_path / "tiny")
    assert state is not None
    assert (state.state, state.proposals) == ("interrupted", True)


def test_a_run_whose_trials_a_scheduler_stops_does_not_go_on_without_it(tmp_path: Path) -> None:
    RunState("reviews", "interrupted", 1, trial_scheduler="ASHAScheduler").write(tmp_path / "tiny")
    with pytest.raises(InputError) as refused:
        run_experiment(tiny_experiment(name="tiny", storage=str(tmp_path)))
    assert "the run 'tiny' are stopped early by a scheduler in Python (ASHAScheduler)" in str(refused.value)
    assert "`raydisc.run(experiment, trial_scheduler=...)` and the same scheduler" in str(refused.value)
    state = read_state(tmp_path / "tiny")
    assert state is not None
    assert (state.state, state.trial_scheduler) == ("interrupted", "ASHAScheduler")


def test_settings_of_a_trial_are_in_its_name_and_in_the_keys_of_its_stages(
    experiment: Experiment, subject: Subject
) -> None:
    plain = minidisc_trial(STUDENT_SCALE)
    tuned = plain.with_settings({"distillation.lr": 0.02, "distillation.epochs": 2.0})
    assert tuned.name == "minidisc-lam-0.2-distillation.epochs-2-distillation.lr-0.02-to-0.25-seed-0"
    assert tuned.with_settings({"distillation.lr": 0.1}).settings == (
        ("distillation.epochs", 2.0), ("distillation.lr", 0.1),
    )  # fmt: skip
    assert len({plain, tuned}) == 2

    def keys(trial: Trial, of: Experiment) -> list[str]:
        found = foresee(steps_of(trial, of, subject), ONE_THREAD, tokens_known(of, subject))
        return [artifact.key for _, artifact in found]

    path = maxidisc_trial(STUDENT_SCALE, (0.5,))
    written = experiment.model_copy(
        update={"distillation": experiment.distillation.model_copy(update={"lr": 0.02, "epochs": 2.0})}
    )
    other = path.with_settings(dict(tuned.settings))
    assert keys(other, experiment) == keys(path, written)
    assert keys(other, experiment)[:4] == keys(path, experiment)[:4], "the preparation and the teacher's outputs"
    assert not set(keys(other, experiment)[4:]) & set(keys(path, experiment))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "grid.allocation",
            "uniform",
            "'grid.allocation' is not one that a trial may have; give a setting of",
        ),
        ("distillation.speed", 1, "'distillation.speed' is not one that a trial may have"),
        ("distillation", 1, "'distillation' is not one that a trial may have"),
        ("distillation.lr", -1.0, "trial kd-distillation.lr--1-to-0.25-seed-0: distillation.lr is -1.0, but should be"),
    ],
)
def test_a_setting_that_no_trial_may_have_is_refused(
    setting: str, value: object, message: str, experiment: Experiment, subject: Subject
) -> None:
    with pytest.raises(InputError) as refused:
        steps_of(kd_trial(STUDENT_SCALE).with_settings({setting: value}), experiment, subject)
    assert message in str(refused.value)
