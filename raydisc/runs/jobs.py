"""The plan of a run: its jobs, each a Ray Tune trial, and what each waits for.

What several trials need runs first, as a trial of its own, so that no trial holds devices while it waits.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raydisc.config.experiment import Experiment
from raydisc.models.precision import Arithmetic
from raydisc.schedules.base import Trial
from raydisc.schedules.foresight import foresee
from raydisc.schedules.search import Search
from raydisc.schedules.trials import steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.problem import Subject

PREPARE = "prepare"
TEST_OF_TEACHER = "test-of-teacher"


@dataclass(frozen=True)
class Job:
    """One Ray Tune trial of a run.

    Attributes:
        name: unique within the run.
        label: for people.
        needs: names of the jobs that must have ended before.
        trial: the schedule's trial that the job is, belongs to or tests; None for the common ones.
        until: for a stage that several trials share, its key: the trial is run up to there.
        test: whether the job reads the test split, of the trial's student or (without a trial) of the teacher.
        of_teacher: whether it is one for the teacher's workers.
    """

    name: str
    label: str
    needs: tuple[str, ...] = ()
    trial: Trial | None = None
    until: str | None = None
    test: bool = False
    of_teacher: bool = False


@dataclass(frozen=True)
class Ended:
    """How the jobs of a run have ended.

    Attributes:
        failures: one sentence for each that failed.
        following: names of those that were not run to their end, as the budget was spent.
    """

    failures: list[str]
    following: list[str]


def make_plan(
    experiment: Experiment,
    subject: Subject,
    trials: Sequence[Trial],
    arithmetic: Arithmetic,
    find: Callable[[str], Artifact | None],
) -> list[Job]:
    """All jobs of a run: preparation, shared stages, schedules, controls, and the tests after every choice.

    Where the teacher has workers of its own, each of its stages is a job for them.
    """
    some = trials[0]
    search = Search(experiment, subject, some.student_scale, some.seed)
    common = {artifact.key for _, artifact in foresee(search.prepare(), arithmetic, find)}
    foreseen = {
        trial.name: [
            (request, artifact)
            for request, artifact in foresee(steps_of(trial, experiment, subject), arithmetic, find)
            if artifact.key not in common
        ]
        for trial in trials
    }
    shared = _shared_jobs(trials, foreseen, apart=experiment.resources.teacher_workers is not None)
    schedules = [_schedule_job(trial, foreseen[trial.name], shared) for trial in trials]
    finished = tuple(job.name for job in schedules)
    tests = [
        Job(f"test-of-{trial.name}", f"test {trial.name}", needs=finished, trial=trial, test=True) for trial in trials
    ]
    teacher = Job(TEST_OF_TEACHER, "test the teacher", needs=finished, test=True, of_teacher=True)
    return [Job(PREPARE, "prepare", of_teacher=True), *shared.values(), *schedules, *tests, teacher]


def within(jobs: Sequence[Job], trials: int | None) -> list[Job]:
    """The jobs of a plan's first schedule trials, so many of them: they, and what they need.

    Tests are left out with the trials that they wait for.
    """
    schedules = [job for job in jobs if job.trial is not None and job.until is None and not job.test]
    if trials is None or trials >= len(schedules):
        return list(jobs)
    by_name = {job.name: job for job in jobs}
    wanted: set[str] = {PREPARE}
    begun = [job.name for job in schedules[:trials]]
    while begun:
        name = begun.pop()
        wanted.add(name)
        begun += [need for need in by_name[name].needs if need not in wanted]
    return [job for job in jobs if job.name in wanted]


Foreseen = Sequence[tuple[Stage, Artifact]]
"""Stages that a trial will ask for."""


def _shared_jobs(trials: Sequence[Trial], foreseen: Mapping[str, Foreseen], apart: bool) -> dict[str, Job]:
    """A job for each unfinished stage that two trials or more will ask for, by the stage's key; also for the teacher's.

    Stages that most others wait for come first (see ``Stage.comes_first``).
    """
    wanted = Counter(key for stages in foreseen.values() for key in {artifact.key for _, artifact in stages})
    jobs: dict[str, Job] = {}
    first: set[str] = set()
    for trial in trials:
        for request, artifact in foreseen[trial.name]:
            alone = wanted[artifact.key] < 2 and not (apart and request.of_teacher)
            if alone or artifact.facts is not None or artifact.key in jobs:
                continue
            before = tuple(jobs[key].name for key in artifact.inputs if key in jobs)
            label = f"{artifact.kind} seed {trial.seed}"
            name = f"{artifact.kind}-{artifact.key[:12]}"
            needs = (PREPARE, *before)
            jobs[artifact.key] = Job(name, label, needs, trial, until=artifact.key, of_teacher=request.of_teacher)
            first |= {artifact.key} if request.comes_first else set()
    return dict(sorted(jobs.items(), key=lambda item: item[0] not in first))


def _schedule_job(trial: Trial, foreseen: Foreseen, shared: dict[str, Job]) -> Job:
    needs = [PREPARE, *(shared[artifact.key].name for _, artifact in foreseen if artifact.key in shared)]
    if trial.rival is not None:
        needs.append(trial.rival.name)
    return Job(trial.name, trial.name, needs=tuple(dict.fromkeys(needs)), trial=trial)
