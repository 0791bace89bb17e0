"""The plan of a run, and the searcher that hands it out."""

import time

import pytest
from filling import Known
from tiny_runs import tokens_known

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.models.precision import Arithmetic
from raydisc.runs.jobs import PREPARE, Job, Jobs, within
from raydisc.runtime.cluster import with_waiting
from raydisc.runtime.job_searcher import JobSearcher
from raydisc.runtime.reports import JobEnded, to_result
from raydisc.schedules.trials import expand
from raydisc.stages.problem import Subject, inspect
from raydisc.training.loop import never

OVERRIDES = ["task.reviews={train: 60, validation: 20, test: 20}", "grid.scales=[0.8, 0.5, 0.2, 0.1]"]


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    experiment = load_experiment("experiments/quickstart.yaml", [*OVERRIDES, "student.scale=[0.2, 0.1]"])
    subject = inspect(experiment)
    return planned(experiment, subject, [0.2, 0.1])


def planned(experiment: Experiment, subject: Subject, students: list[float]) -> list[Job]:
    """All jobs of an experiment of which nothing but the tokens is there."""
    jobs = Jobs(experiment, subject, Arithmetic(1), tokens_known(experiment, subject))
    jobs.add(expand(experiment, students))
    jobs.close()
    return jobs.planned


def needs(jobs: list[Job], name: str) -> set[str]:
    """Everything that a job waits for, directly or not."""
    direct = next(job for job in jobs if job.name == name).needs
    return set(direct).union(*(needs(jobs, other) for other in direct))


def test_names_are_unique_and_needs_exist(jobs: list[Job]) -> None:
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert {need for job in jobs for need in job.needs} <= set(names)


def test_what_several_trials_share_is_a_job_of_its_own(jobs: list[Job]) -> None:
    shared = [job for job in jobs if job.until]
    # the teacher's outputs; one supernet for each student; the assistants 0.8 and 0.5 that both students' MaxiDisc
    # paths begin with, 0.2, which is an assistant of the smaller student and the larger one's KD, and their outputs;
    # and the students that TAKD by the smallest assistant has in common with MaxiDisc
    kinds = ["distil"] * 5 + ["once_for_all"] * 2 + ["teacher_outputs"] * 4
    assert sorted(job.name.split("-")[0] for job in shared) == kinds
    supernets = {job.name for job in shared if job.name.startswith("once_for_all")}
    for student in ("0.2", "0.1"):
        [minidisc] = needs(jobs, f"minidisc-lam-0.2-to-{student}-seed-0") & supernets
        assert minidisc in needs(jobs, f"kd_from_supernet-lam-0.2-to-{student}-seed-0")
        assert not needs(jobs, f"kd-to-{student}-seed-0") & supernets


def test_a_budget_of_trials_has_the_first_of_them_with_what_they_need_and_nothing_else(jobs: list[Job]) -> None:
    schedules = [job for job in jobs if job.is_trial]
    assert len(schedules) > 3
    kept = within(jobs, 3)
    first = {job.name for job in schedules[:3]}
    assert {job.name for job in kept} == {PREPARE, *first}.union(*(needs(jobs, name) for name in first))
    assert len(kept) < len(jobs)
    assert within(jobs, None) == within(jobs, len(schedules)) == jobs


def test_a_teacher_s_own_workers_have_a_job_for_each_of_its_stages() -> None:
    """Though a single trial wants them; no other job computes with the whole teacher."""
    settings = [*OVERRIDES, "schedules=[{minidisc: {lam: 0.2}}]", "controls=false", "student.scale=0.1"]

    def jobs_of(*more: str) -> list[Job]:
        experiment = load_experiment("experiments/quickstart.yaml", [*settings, *more])
        return planned(experiment, inspect(experiment), [0.1])

    shared = [job for job in jobs_of() if job.until]
    assert shared == []
    apart = jobs_of("resources.teacher_workers=2")
    [outputs] = [job for job in apart if job.until]
    assert outputs.name.startswith("teacher_outputs")
    assert outputs.name in needs(apart, "minidisc-lam-0.2-to-0.1-seed-0")
    own = {job.name for job in apart if job.of_teacher}
    assert own == {PREPARE, outputs.name, "test-of-teacher"}


def test_controls_wait_for_their_minidisc_and_tests_for_every_choice(jobs: list[Job]) -> None:
    assert "minidisc-lam-0.2-to-0.1-seed-0" in needs(jobs, "kd_equal_compute-lam-0.2-to-0.1-seed-0")
    choices = {job.name for job in jobs if job.trial and not job.until and not job.test}
    for job in jobs:
        if job.test:
            assert choices <= set(job.needs)


def endless() -> int:
    """As many at a time as there are."""
    return 10**9


def finish(searcher: JobSearcher, failing: str = "") -> list[dict[str, str]]:
    """Hand out everything, one at a time; gives the configurations in order."""
    given = []
    while (config := searcher.suggest(str(len(given)))) != JobSearcher.FINISHED:
        assert config is not None, "everything waits, yet nothing runs"
        failure = config["inherited_failure"] or ("broken" if config["job"].name == failing else None)
        searcher.on_trial_complete(str(len(given)), to_result(JobEnded(failure=failure)))
        given.append(config)
    return given


def test_every_job_is_handed_out_once_after_what_it_needs(jobs: list[Job]) -> None:
    order = [config["job"].name for config in finish(JobSearcher(Known(jobs), endless, never))]
    assert sorted(order) == sorted(job.name for job in jobs)
    for job in jobs:
        assert all(order.index(need) < order.index(job.name) for need in job.needs)


def test_nothing_but_the_preparation_starts_before_it_has_ended(jobs: list[Job]) -> None:
    searcher = JobSearcher(Known(jobs), endless, never)
    assert searcher.suggest("a")["job"].name == PREPARE
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", to_result(JobEnded()))
    assert searcher.suggest("b") is not None


def test_at_most_so_many_run_at_once(jobs: list[Job]) -> None:
    searcher = JobSearcher(Known(jobs), lambda: 2, never)
    for name in "ab":  # the preparation and the teacher's outputs, for which everything else waits
        searcher.suggest(name)
        searcher.on_trial_complete(name, {})
    assert [searcher.suggest(name) is None for name in "cde"] == [False, False, True]


def test_a_cluster_that_grows_is_given_more(jobs: list[Job]) -> None:
    room = [1]
    searcher = JobSearcher(Known(jobs), lambda: room[0], never)
    for name in "ab":
        searcher.suggest(name)
        searcher.on_trial_complete(name, {})
    assert [searcher.suggest(name) is None for name in "cd"] == [False, True]
    room[0] = 3
    assert [searcher.suggest(name) is None for name in "def"] == [False, False, True]


def test_what_begins_to_be_ready_stands_where_the_plan_has_it() -> None:
    """Not behind what has been waiting for room."""
    plan = [Job("first", ""), Job("long", "", needs=("first",)), Job("short", ""), Job("shorter", "")]
    searcher = JobSearcher(Known(plan), lambda: 1, never)
    order = [config["job"].name for config in finish(searcher)]
    assert order == ["first", "long", "short", "shorter"]


def test_asking_takes_no_longer_in_a_long_plan() -> None:
    """The tests of every trial wait for every trial: looking through them each time takes minutes here."""
    count = 3000
    schedules = [Job(f"trial-{number}", "", needs=(PREPARE,)) for number in range(count)]
    names = tuple(job.name for job in schedules)
    tests = [Job(f"test-{number}", "", needs=names, test=True) for number in range(count)]
    searcher = JobSearcher(Known([Job(PREPARE, ""), *schedules, *tests]), endless, never)
    assert searcher.suggest("first")["job"].name == PREPARE
    searcher.on_trial_complete("first", {})
    for number in range(count):
        assert searcher.suggest(str(number)) is not None
    begun = time.process_time()
    for number in range(count):
        assert searcher.suggest("early") is None
        searcher.on_trial_complete(str(number), {})
    assert searcher.suggest("early")["job"].name == "test-0"
    assert time.process_time() - begun < 5.0


def test_half_as_many_trials_again_wait_for_room() -> None:
    assert [with_waiting(trials) for trials in (0, 1, 2, 8, 1000)] == [1, 2, 3, 12, 1500]


def test_a_failure_reaches_what_waits_for_it_and_nothing_else(jobs: list[Job]) -> None:
    [supernet] = [job.name for job in jobs if job.name in needs(jobs, "minidisc-lam-0.2-to-0.1-seed-0")
                  and job.name.startswith("once_for_all")]  # fmt: skip
    given = {
        config["job"].name: config["inherited_failure"]
        for config in finish(JobSearcher(Known(jobs), endless, never), supernet)
    }
    failed = {name for name, failure in given.items() if failure}
    assert failed == {
        "minidisc-lam-0.2-to-0.1-seed-0", "kd_equal_compute-lam-0.2-to-0.1-seed-0",
        "kd_equal_seconds-lam-0.2-to-0.1-seed-0", "kd_from_supernet-lam-0.2-to-0.1-seed-0",
    }  # fmt: skip
