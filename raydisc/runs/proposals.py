"""Proposals: which trials a run consists of, decided before it begins or while it goes on."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from raydisc.errors import InputError
from raydisc.runs.jobs import Job, Jobs
from raydisc.schedules.base import Trial

State = Literal["finished", "failed", "stopped early"]


Curve = tuple[tuple[float, float], ...]
"""Evaluations of a trial: its FLOPs until then, and the validation metric."""


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial.

    Attributes:
        state: How it ended; ``stopped early`` by the scheduler of trials.
        metric: The validation metric of the student or, of a trial that was stopped early, of its last evaluation;
            None where there is no evaluation.
        message: Why it failed, or where it was stopped.
        flops: The FLOPs of its own stages as far as it went, as if it had run alone; None where they are not known.
        curve: The evaluations of its student while it was trained.

    Example:
        >>> result = TrialResult("finished", metric=0.91)
        >>> result.state, result.metric
        ('finished', 0.91)
    """

    state: State
    metric: float | None = None
    message: str = ""
    flops: float | None = None
    curve: Curve = ()


class Proposals(Protocol):
    """A source of trials, such as a grid or a search algorithm.

    A run that is resumed asks a new source from the beginning. Trials that had ended are not run again, and their
    results are passed on at once; so a source should propose the same trials when it gets the same results.

    Example:
        >>> class OneByOne:
        ...     '''Trials one after another, until a student is good enough.'''
        ...     def __init__(self, trials):
        ...         self.left, self.waits = list(trials), False
        ...     def next(self):
        ...         if self.waits or not self.left:
        ...             return None
        ...         self.waits = True
        ...         return self.left.pop(0)
        ...     def tell(self, trial, result):
        ...         self.waits = False
        ...         if (result.metric or 0) > 0.9:
        ...             self.left.clear()
        >>> from raydisc.schedules import SCHEDULES
        >>> kd = SCHEDULES.get("kd")
        >>> proposals = OneByOne(Trial(kd(kd.Options()), student_scale=0.1, seed=seed) for seed in range(3))
        >>> first = proposals.next()
        >>> proposals.next() is None
        True
        >>> proposals.tell(first, TrialResult("finished", metric=0.8))
        >>> proposals.next().name
        'kd-to-0.1-seed-1'
    """

    def next(self) -> Trial | None:
        """Return the next trial, or None if further results have to be known first.

        It is asked at the start and after every result until it returns None, or until there are as many trials as
        ``budget.trials`` of the experiment allows. The run ends, with the tests of all students, when it returns None,
        or is asked no more, while no trial is waiting or running.
        """

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Take the result of a trial that was proposed."""


class Grid:
    """Trials that are known from the beginning.

    Args:
        trials: The trials, in the order in which they are to begin.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        """Start with all trials still to be proposed."""
        self._trials = deque(trials)

    def next(self) -> Trial | None:
        """Return the next trial, or None after the last one."""
        return self._trials.popleft() if self._trials else None

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Leave the grid as it is."""


class Planner:
    """Asks proposals for trials, and plans their jobs.

    Args:
        proposals: The source of trials.
        most: The number of trials after which the source is asked for no more; None asks as long as it proposes any.

    Raises:
        InputError: There is no trial to begin with, or one is proposed twice.
    """

    def __init__(self, proposals: Proposals, most: int | None = None) -> None:
        """Ask for the first trials."""
        self._proposals, self._most = proposals, most
        self.trials: list[Trial] = []
        self.over = False
        """Whether no further jobs will come."""
        self._open: set[str] = set()
        self._new: list[Job] = []
        self._propose()
        if not self.trials:
            raise InputError("proposals: no trial is proposed; propose at least one before the first result is known")

    def begin(self, jobs: Jobs, on_planned: Callable[[int], None] = lambda count: None) -> None:
        """Plan the first trials.

        Args:
            jobs: The jobs of the run, to which those of all trials are added.
            on_planned: Takes the number of jobs that are expected, whenever it changes.
        """
        self._jobs, self._on_planned = jobs, on_planned
        self._new = self._planned(self.trials)

    def more(self) -> list[Job]:
        """Return the jobs that were planned since the last call; at the end those of the tests."""
        new, self._new = self._new, []
        new += self._planned(self._propose())
        if not self._open and not self.over:
            self.over = True
            new += self._jobs.close()
        return new

    def ended(self, job: Job, result: TrialResult) -> None:
        """Pass on the result of a job, if the job is a trial."""
        if job.trial is not None and job.is_trial:
            self._open.discard(job.name)
            self._proposals.tell(job.trial, result)

    def is_done(self, ended: Collection[str]) -> bool:
        """Whether all jobs within the budget have ended, and no further ones will come."""
        return self.over and all(job.name in ended for job in self._jobs.planned)

    def unfinished(self, ended: Collection[str]) -> list[str]:
        """Return the names of all jobs but those that have ended, of jobs beyond the budget too."""
        self._jobs.close()
        return [job.name for job in (*self._jobs.planned, *self._jobs.left) if job.name not in ended]

    def _propose(self) -> list[Trial]:
        names = {trial.name for trial in self.trials}
        found: list[Trial] = []
        while self._most is None or len(names) < self._most:
            trial = self._proposals.next()
            if trial is None:
                break
            if trial.name in names:
                raise InputError(f"proposals: the trial '{trial.name}' is proposed twice; propose each trial once")
            names.add(trial.name)
            found.append(trial)
        self.trials += found
        return found

    def _planned(self, trials: Sequence[Trial]) -> list[Job]:
        jobs = self._jobs.add(trials) if trials else []
        self._open.update(job.name for job in jobs if job.is_trial)
        if trials:
            self._on_planned(self._jobs.expected)
        return jobs
