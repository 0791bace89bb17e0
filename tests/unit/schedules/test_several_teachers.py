"""Several teachers, crossed with the seeds: trials, their stages, their jobs and what a plan says that they cost."""

from pathlib import Path

import pytest
from tiny_runs import tiny_experiment, tokens_known
from tiny_schedules import KD

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.errors import InputError
from raydisc.forecast.dry_run import Forecast, Forecaster
from raydisc.forecast.plan import schedule_rows, total_row
from raydisc.models.precision import Arithmetic
from raydisc.runs.jobs import Job, Jobs, within
from raydisc.schedules.base import Trial
from raydisc.schedules.foresight import foresee
from raydisc.schedules.trials import expand, preparation, steps_of
from raydisc.stages.problem import Subject, inspect
from raydisc.testing.runs import ONE_THREAD


def experiment(*seeds: int, **changes: object) -> Experiment:
    """The tiny experiment with a teacher for each of these seeds."""
    tiny = tiny_experiment(**changes)
    return tiny.model_copy(update={"teacher": tiny.teacher.model_copy(update={"seeds": list(seeds)})})


@pytest.fixture(scope="module")
def subject() -> Subject:
    return inspect(tiny_experiment())


def keys(trial: Trial, of: Experiment, subject: Subject) -> list[str]:
    return [
        artifact.key for _, artifact in foresee(steps_of(trial, of, subject), ONE_THREAD, tokens_known(of, subject))
    ]


def test_every_schedule_runs_by_every_teacher_with_every_seed() -> None:
    controls = ["kd_equal_compute", "kd_from_supernet"]
    several = experiment(3, 5, schedules=["kd", "minidisc"], controls=controls, seeds=[0, 1])
    found = expand(several, [0.25])
    pairs = [(teacher, seed) for teacher in (3, 5) for seed in (0, 1)]
    for name in ("kd", "minidisc", *controls):
        assert [trial.replicate for trial in found if trial.schedule.name == name] == pairs
    assert len({trial.name for trial in found}) == len(found) == 4 * len(pairs)
    assert found[0].name == "kd-to-0.25-teacher-3-seed-0"
    assert all(trial.rival in found for trial in found if trial.schedule.is_control)


@pytest.mark.parametrize("given", [{"seed": 4}, {"seeds": [4]}])
def test_one_teacher_is_not_named(given: dict[str, object], subject: Subject) -> None:
    tiny = tiny_experiment(schedules=["kd"])
    one = tiny.model_copy(update={"teacher": tiny.teacher.model_copy(update=given)})
    [trial] = expand(one, [0.25])
    assert (trial.name, trial.teacher_seed) == ("kd-to-0.25-seed-0", None)
    assert keys(trial, one, subject) == keys(trial, tiny.model_copy(update={"teacher": one.teacher}), subject)


def test_the_stages_by_one_of_several_teachers_are_those_of_an_experiment_with_that_teacher(subject: Subject) -> None:
    several = experiment(3, 5, schedules=["kd"])
    alone = {
        seed: tiny_experiment(
            teacher=several.teacher.model_copy(update={"seed": seed, "seeds": None}), schedules=["kd"]
        )
        for seed in (3, 5)
    }
    of_each = {trial.teacher_seed: keys(trial, several, subject) for trial in expand(several, [0.25])}
    assert of_each == {seed: keys(expand(one, [0.25])[0], one, subject) for seed, one in alone.items()}
    shared = set(of_each[3]) & set(of_each[5])
    assert len(shared) == 1, "the tokenised task"


def test_preparations_are_of_one_teacher(subject: Subject) -> None:
    several = experiment(3, 5)
    find = tokens_known(several, subject)
    prepared = [
        [artifact.key for _, artifact in foresee(preparation(several, subject, seed), ONE_THREAD, find)]
        for seed in (3, 5)
    ]
    assert prepared[0][0] == prepared[1][0]
    assert not set(prepared[0][1:]) & set(prepared[1][1:])


@pytest.mark.parametrize(("named", "seed"), [(None, "None"), (4, "4")])
def test_a_trial_by_a_teacher_that_the_experiment_lacks_is_refused(
    named: int | None, seed: str, subject: Subject
) -> None:
    sentence = rf"trial kd-.*: teacher_seed is {seed}, but should be one of teacher.seeds \(3, 5\)"
    with pytest.raises(InputError, match=sentence):
        steps_of(Trial(KD, 0.25, 0, teacher_seed=named), experiment(3, 5), subject)


OVERRIDES = [
    "task.reviews={train: 60, validation: 20, test: 20}", "grid.scales=[0.8, 0.5, 0.1]", "seeds=[0, 1]",
    "controls=[kd_equal_compute, kd_from_supernet]",
]  # fmt: skip


def planned(*overrides: str) -> list[Job]:
    of = load_experiment("experiments/quickstart.yaml", [*OVERRIDES, *overrides])
    subject = inspect(of)
    jobs = Jobs(of, subject, Arithmetic(1), tokens_known(of, subject))
    jobs.add(expand(of, [0.1]))
    before = jobs.expected
    jobs.close()
    assert len(jobs.planned) == before
    return jobs.planned


def test_jobs_wait_for_the_preparation_of_their_own_teacher() -> None:
    jobs = planned("teacher.seeds=[3, 5]")
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert names[:2] == ["prepare-3", "prepare-5"]
    assert names[-2:] == ["test-of-teacher-3", "test-of-teacher-5"]
    assert [job.by_teacher for job in jobs[:2]] == [job.by_teacher for job in jobs[-2:]] == [3, 5]
    by_name = {job.name: job for job in jobs}
    for job in jobs[2:]:
        waited = [by_name[name] for name in (*job.needs, *job.after)]
        assert job.test or {other.by_teacher for other in waited} == {job.by_teacher}
    shared = [job for job in jobs if job.until]
    for teacher in (3, 5):
        # seeds share their teacher's outputs; each seed has its supernet
        kinds = [job.name.split("-")[0] for job in shared if job.by_teacher == teacher]
        assert (kinds.count("teacher_outputs"), kinds.count("once_for_all")) == (1, 2)
        assert any(job.label == f"once_for_all teacher {teacher} seed 1" for job in shared)


def test_a_budget_of_trials_prepares_only_the_teachers_of_those_trials() -> None:
    assert [job.name for job in within(planned("teacher.seeds=[3, 5]"), 1) if job.trial is None] == ["prepare-3"]


def test_a_plan_prices_every_teacher(tmp_path: Path) -> None:
    def forecasts(*overrides: str) -> list[list[Forecast]]:
        of = load_experiment("experiments/quickstart.yaml", [*OVERRIDES, "schedules=[kd, maxidisc]", *overrides])
        forecaster = Forecaster(of, inspect(of, weights=False), tmp_path / "-".join(overrides))
        return [forecaster.forecasts(trial) for trial in expand(of, [0.1])]

    one, other, both = forecasts("teacher.seed=3"), forecasts("teacher.seed=5"), forecasts("teacher.seeds=[3, 5]")
    total = [total_row(found, None) for found in (one, other, both)]
    assert total[2]["flops"]["expected"] == pytest.approx(sum(row["flops"]["expected"] for row in total[:2]))
    assert total[2]["stages"] == total[0]["stages"] + total[1]["stages"] - 1, "they share the tokenised task"
    rows, expected = schedule_rows(both, [], None), schedule_rows(one, [], None)
    assert [(row["teachers"], row["seeds"], row["trials"]) for row in rows] == [(2, 2, 1), (2, 2, 2)]
    assert [row["flops"] for row in rows] == [row["flops"] for row in expected]
