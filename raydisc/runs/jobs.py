"""The jobs of a run, each a Ray Tune trial, and what each waits for.

A stage that several trials need is a job of its own that runs before them, so that no trial holds devices while it
waits.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raydisc.config.experiment import Experiment
from raydisc.models.precision import Arithmetic
from raydisc.schedules.base import Trial
from raydisc.schedules.foresight import foresee
from raydisc.schedules.trials import preparation, steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.problem import Subject

PREPARE = "prepare"
TEST_OF_TEACHER = "test-of-teacher"


@dataclass(frozen=True)
class Job:
    """One Ray Tune trial of a run.

    Attributes:
        name: The name, unique within the run.
        label: The name for people.
        needs: The names of the jobs that must have ended before; where one failed, so does this job.
        after: The names of further jobs that must have ended before, whatever came of them.
        trial: The trial that the job is, computes a stage of or tests; None for the jobs of all trials.
        until: The key of the stage up to which the trial is run, where several trials share that stage.
        test: Whether the job reads the test split, for the trial's student or (without a trial) the teacher.
        of_teacher: Whether it is for the teacher's own workers.
        teacher_seed: The seed of the teacher that it prepares or tests, where there are several and it has no trial.
    """

    name: str
    label: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    trial: Trial | None = None
    until: str | None = None
    test: bool = False
    of_teacher: bool = False
    teacher_seed: int | None = None

    @property
    def is_trial(self) -> bool:
        """Whether the job is a whole trial of a schedule."""
        return self.trial is not None and self.until is None and not self.test

    @property
    def by_teacher(self) -> int | None:
        """The seed of the teacher whose stages it computes or tests; None for a teacher that is the only one."""
        return self.teacher_seed if self.trial is None else self.trial.teacher_seed

    def __str__(self) -> str:
        """Return the name, which Tune makes a part of its own names."""
        return self.name


@dataclass(frozen=True)
class Ended:
    """The end of a run's jobs.

    Attributes:
        failures: One sentence for each job that failed.
        following: The names of the jobs that were not run to their end, since the budget was spent.
    """

    failures: list[str]
    following: list[str]


Foreseen = Sequence[tuple[Stage, Artifact]]
"""The stages that a trial will ask for."""


class Jobs:
    """The jobs of a run: preparation, shared stages, trials, and the tests after every choice.

    Where the teacher has workers of its own, each of its stages is a job for them.

    Args:
        experiment: The experiment.
        subject: Its task and its teacher.
        arithmetic: How stages will be computed.
        find: Returns a finished stage's artifact by its key, or None.
        most: The number of trials within the budget; None for all.
    """

    def __init__(
        self,
        experiment: Experiment,
        subject: Subject,
        arithmetic: Arithmetic,
        find: Callable[[str], Artifact | None],
        most: int | None = None,
    ) -> None:
        """Start without trials."""
        self._experiment, self._subject, self._arithmetic, self._find = experiment, subject, arithmetic, find
        self._most = most
        preparations = [preparation(experiment, subject, teacher_seed) for teacher_seed in experiment.teachers]
        self._common = {artifact.key for steps in preparations for _, artifact in foresee(steps, arithmetic, find)}
        self._shared: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._trials: list[Trial] = []
        self._closed = False
        self.planned: list[Job] = []
        """The jobs within the budget."""
        self.left: list[Job] = []
        """The jobs beyond it."""

    @property
    def expected(self) -> int:
        """The number of jobs within the budget, with the tests still to come."""
        teachers = self._experiment.teachers
        students = sum(trial.leaves_student for trial in self._trials)
        tests_to_come = 0 if self._closed or self.left else students + len(teachers)
        return len(self.planned) + tests_to_come

    def add(self, trials: Sequence[Trial]) -> list[Job]:
        """Plan further trials, and return their jobs that are within the budget.

        A stage that two or more of these trials will ask for is a job of its own. A stage that an earlier trial will
        compute is waited for.
        """
        foreseen = {trial.name: self._foreseen(trial) for trial in trials}
        jobs = [] if self._trials else [_preparing(teacher_seed) for teacher_seed in self._experiment.teachers]
        jobs += self._shared_jobs(trials, foreseen)
        jobs += [self._trial_job(trial, foreseen[trial.name], trials) for trial in trials]
        for trial in trials:
            for _, artifact in foreseen[trial.name]:
                self._owners.setdefault(artifact.key, trial.name)
        self._trials += trials
        begun = sum(job.is_trial for job in self.planned)
        kept = within(jobs, None if self._most is None else self._most - begun)
        names = {job.name for job in kept}
        self.planned += kept
        self.left += [job for job in jobs if job.name not in names]
        return kept

    def close(self) -> list[Job]:
        """Plan the tests of all students and of the teacher, and return them if every trial is within the budget."""
        if self._closed:
            return []
        self._closed = True
        ended = tuple(trial.name for trial in self._trials)
        tests = [
            Job(f"test-of-{trial.name}", f"test {trial.name}", needs=ended, trial=trial, test=True)
            for trial in self._trials
            if trial.leaves_student
        ]
        tests += [_testing(teacher_seed, ended) for teacher_seed in self._experiment.teachers]
        if self.left:
            self.left += tests
            return []
        self.planned += tests
        return tests

    def _foreseen(self, trial: Trial) -> Foreseen:
        """Return the stages that a trial will ask for and that have not been computed."""
        steps = steps_of(trial, self._experiment, self._subject)
        found = foresee(steps, self._arithmetic, self._find)
        return [it for it in found if it[1].key not in self._common and it[1].facts is None]

    def _shared_jobs(self, trials: Sequence[Trial], foreseen: Mapping[str, Foreseen]) -> list[Job]:
        """Return a job for each stage that two or more trials will ask for, and for those of the teacher's workers.

        Stages that most others wait for come first (see ``Stage.comes_first``).
        """
        wanted = Counter(key for stages in foreseen.values() for key in {artifact.key for _, artifact in stages})
        apart = self._experiment.resources.teacher_workers is not None
        jobs: list[Job] = []
        first: set[str] = set()
        for trial in trials:
            for stage, artifact in foreseen[trial.name]:
                alone = wanted[artifact.key] < 2 and not (apart and stage.of_teacher)
                if alone or artifact.key in self._shared or artifact.key in self._owners:
                    continue
                before = tuple(self._shared[key] for key in artifact.inputs if key in self._shared)
                name = self._shared[artifact.key] = f"{artifact.kind}-{artifact.key[:12]}"
                by = "" if trial.teacher_seed is None else f" teacher {trial.teacher_seed}"
                label, needs = f"{artifact.kind}{by} seed {trial.seed}", (_of(PREPARE, trial.teacher_seed), *before)
                jobs.append(Job(name, label, needs, (), trial, until=artifact.key, of_teacher=stage.of_teacher))
                first |= {name} if stage.comes_first else set()
        return sorted(jobs, key=lambda job: job.name not in first)

    def _trial_job(self, trial: Trial, foreseen: Foreseen, others: Sequence[Trial]) -> Job:
        keys = [artifact.key for _, artifact in foreseen]
        needs = [_of(PREPARE, trial.teacher_seed), *(self._shared[key] for key in keys if key in self._shared)]
        after = [self._owners[key] for key in keys if key in self._owners and key not in self._shared]
        if trial.waits_for is not None and trial.waits_for in (*self._trials, *others):
            needs.append(trial.waits_for.name)
        return Job(trial.name, trial.name, tuple(dict.fromkeys(needs)), tuple(dict.fromkeys(after)), trial)


def _of(name: str, teacher_seed: int | None) -> str:
    """Return the name of a teacher's job."""
    return name if teacher_seed is None else f"{name}-{teacher_seed}"


def _labelled(label: str, teacher_seed: int | None) -> str:
    return label if teacher_seed is None else f"{label} {teacher_seed}"


def _preparing(teacher_seed: int | None) -> Job:
    label = _labelled("prepare", teacher_seed)
    return Job(_of(PREPARE, teacher_seed), label, of_teacher=True, teacher_seed=teacher_seed)


def _testing(teacher_seed: int | None, needs: tuple[str, ...]) -> Job:
    name, label = _of(TEST_OF_TEACHER, teacher_seed), _labelled("test the teacher", teacher_seed)
    return Job(name, label, needs, test=True, of_teacher=True, teacher_seed=teacher_seed)


def within(jobs: Sequence[Job], trials: int | None) -> list[Job]:
    """Return the jobs of the first trials of a plan, with the jobs that they wait for.

    Args:
        jobs: The plan, or a part of it.
        trials: The number of trials; None for all of them.
    """
    whole = [job for job in jobs if job.is_trial]
    if trials is None or trials >= len(whole):
        return list(jobs)
    by_name = {job.name: job for job in jobs}
    wanted: set[str] = {PREPARE}
    begun = [job.name for job in whole[: max(0, trials)]]
    while begun:
        name = begun.pop()
        wanted.add(name)
        job = by_name[name]
        begun += [other for other in (*job.needs, *job.after) if other in by_name and other not in wanted]
    return [job for job in jobs if job.name in wanted]
