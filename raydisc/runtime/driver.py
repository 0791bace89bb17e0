"""The driver: checks an experiment, runs its jobs, and gathers the results."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd

from raydisc.config.experiment import Experiment
from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError, StorageError
from raydisc.exit_codes import STOPPED
from raydisc.forecast.layouts import settled_layouts
from raydisc.models.student_folder import CARD
from raydisc.report.compare import compare
from raydisc.report.html import write_report
from raydisc.report.ledger import Ledger
from raydisc.report.live.reporter import LiveReporter
from raydisc.report.runs import RunState, State, read_state
from raydisc.report.show import show
from raydisc.runs.budget import Spending
from raydisc.runs.folder import RESOLVED, claimed_folder
from raydisc.runs.jobs import Ended, Jobs
from raydisc.runs.machine import refuse_beyond_machine
from raydisc.runs.proposals import Grid, Planner, Proposals
from raydisc.runs.sources import Asked, Together, asked_of, begun
from raydisc.runs.termination import interrupt, on_sigterm
from raydisc.runs.tokens import tokens_first
from raydisc.runtime.liveness import on_loss
from raydisc.runtime.private_folder import remove_private_folder, usable_base
from raydisc.runtime.session import ray_session, starts_here
from raydisc.schedules.base import Trial
from raydisc.schedules.trials import expand, notices_of_outputs
from raydisc.stages.artifact import Artifact
from raydisc.stages.problem import Subject, inspect, student_scales
from raydisc.stages.store import AlteredArtifact, ArtifactStore, computed_anew
from raydisc.storage.address import open_storage
from raydisc.storage.faults import sentence
from raydisc.storage.folder import Held, Storage
from raydisc.tradeoff import DEFAULT_LAM

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

REPORT = "report.html"
"""The report in a run's folder."""


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        name: The run's name.
        comparison: One row for each schedule, path and seed, as ``raydisc compare --json`` prints them.
        show: The output of ``raydisc show --json``: stages, candidates, trials.
        students: The folder of each finished student by trial name, for ``raydisc.load_student``; or its address.
        places: The places of students, ledger and report.
        failures: One sentence for each job that failed.
        following: The names of the jobs that were not run to their end, as the budget was spent; they are run once
            there is more of it.

    Example:
        >>> rows = [{"schedule": "kd", "metric": 0.86}, {"schedule": "minidisc", "metric": 0.89}]
        >>> result = RunResult("mine", rows, show={}, students={}, places={}, failures=[], following=[])
        >>> float(result.dataframe["metric"].max())
        0.89
    """

    name: str
    comparison: list[dict[str, Any]]
    show: dict[str, Any]
    students: dict[str, Path | str]
    places: dict[str, str]
    failures: list[str]
    following: list[str]

    @property
    def dataframe(self) -> pd.DataFrame:
        """The comparison as a table."""
        return pd.DataFrame(self.comparison)


def check_experiment(experiment: Experiment) -> list[str]:
    """Refuse everything that can be refused before any training, and return notices.

    Example:
        >>> from raydisc.testing.runs import tiny_experiment
        >>> check_experiment(tiny_experiment())
        ["grid.scales: 0.1 left out, below the smallest student's scale 0.25"]

    Raises:
        InputError: The experiment cannot work.
    """
    storage = open_storage(experiment.storage)
    _refuse_beyond_machine(experiment.resources)
    subject = _inspected(experiment, storage).subject
    return [*experiment.notices(), *subject.notices]


def _refuse_beyond_machine(resources: ResourcesConfig) -> None:
    """Refuse what this machine lacks; of another machine that is known once Ray has been joined."""
    if starts_here():
        refuse_beyond_machine(resources)
        usable_base()


@dataclass(frozen=True)
class _Inspected:
    """An experiment that can work: its subject, the trials that are known, and the searches for others."""

    subject: Subject
    trials: list[Trial]
    searches: list[Asked]


def _inspected(experiment: Experiment, storage: Storage) -> _Inspected:
    subject = inspect(experiment)
    students = student_scales(experiment, subject)
    return _Inspected(subject, expand(experiment, students), asked_of(experiment, subject, students, storage))


def run_experiment(
    experiment: Experiment,
    reporter: LiveReporter | None = None,
    keep_names: bool = False,
    proposals: Proposals | None = None,
    trial_scheduler: "TrialScheduler | None" = None,
) -> RunResult:
    """Run an experiment, or go on with it where it was; finished stages are not computed again.

    Where its budget is spent it stops, and the result says what would be next.

    Args:
        experiment: The experiment.
        reporter: Shows progress; plain lines on standard error if left out.
        keep_names: Whether relative names of files stay as they are, for a job whose processes all enter one folder.
        proposals: The source of trials; the experiment's schedules and controls if left out.
        trial_scheduler: A scheduler of Ray Tune that stops trials early, such as ``ASHAScheduler``. It hears of every
            evaluation of a trial: of the validation ``metric``, which is better when it is higher, and of its number
            as ``training_iteration``.

    Example:
        A run starts Ray and trains models, for which the tests of docstrings have no time.

        >>> from raydisc import load_experiment
        >>> result = run_experiment(load_experiment("experiments/quickstart.yaml"))  # doctest: +SKIP
        >>> result.dataframe[["schedule", "metric"]]  # doctest: +SKIP

    Raises:
        InputError: The experiment, its data, its teacher, the storage, the resources or the proposals cannot work.
        StorageError: The storage has failed meanwhile.
        KeyboardInterrupt: The run was interrupted; it goes on when it is run again.
    """
    reporter = reporter or LiveReporter(plain=True)
    experiment = experiment if keep_names else experiment.with_absolute_paths()
    storage = open_storage(experiment.storage).absolute()
    _refuse_beyond_machine(experiment.resources)
    inspected = _inspected(experiment, storage)
    try:
        return _run_claimed(experiment, inspected, storage, proposals, reporter, trial_scheduler)
    except OSError as error:
        told = sentence(error, str(storage))
        if told is None:
            raise
        raise StorageError(told) from error


def _run_claimed(
    experiment: Experiment,
    inspected: _Inspected,
    storage: Storage,
    proposals: Proposals | None,
    reporter: LiveReporter,
    trial_scheduler: "TrialScheduler | None",
) -> RunResult:
    subject, proposed = inspected.subject, proposals is not None
    stopped_by = None if trial_scheduler is None else type(trial_scheduler).__name__
    planner = None if proposals is None else Planner(proposals, experiment.budget.trials)
    with claimed_folder(storage, experiment) as folder:
        before = read_state(folder)
        if before is not None:
            _refuse_missing(experiment.name, before, proposed, stopped_by is not None)
        # what the file's own sources know lies in the folder; jobs know which of these trials a budget leaves out
        searches = [] if proposed else inspected.searches
        own = Together([Grid(inspected.trials), *begun(searches)])
        planner = planner or Planner(own)
        for notice in (*experiment.notices(), *subject.notices):
            reporter.notice(notice)

        ledger = Ledger(storage / "ledger")
        spending = Spending(experiment.budget, ledger, experiment.name, before.wall_seconds if before else 0.0)

        def note(state: State = "running") -> None:
            known = (subject.task_name, state, len(planner.trials), spending.wall_seconds)
            RunState(*known, proposals=proposed, trial_scheduler=stopped_by).write(folder)

        def lose() -> NoReturn:
            with suppress(OSError, StorageError):
                note("interrupted")
            again = (
                "the same call of `raydisc.run`" if proposed or stopped_by else f"`raydisc resume {experiment.name}`"
            )
            reporter.notice(
                f"the Ray cluster does not answer any more; go on with {again}, there once it does or on another"
            )
            reporter.stop()
            remove_private_folder()
            os._exit(STOPPED)

        def scheduler() -> "TrialScheduler | None":
            from raydisc.runtime.search_scheduler import scheduler_of

            return trial_scheduler or scheduler_of(experiment, subject, searches, own.earlier)

        examples = [trial for asked in searches for trial in asked.examples()]
        note()
        try:
            ended = _run_jobs(
                experiment, subject, storage, planner, reporter, spending, note, lose, scheduler, examples
            )
        except BaseException as error:
            with suppress(OSError, StorageError):  # the first error counts
                note("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        note("stopped: budget" if ended.following else "failed" if ended.failures else "finished")
        return _result(experiment.name, storage, planner.trials, ended)


def _refuse_missing(run: str, before: RunState, proposed: bool, scheduled: bool) -> None:
    """Refuse to go on with a run without what it was begun with in Python, which its experiment does not name."""
    if before.proposals and not proposed:
        raise InputError(
            f"the trials of the run '{run}' are proposed by a source in Python, which its experiment does not name; "
            "continue it with `raydisc.run(experiment, proposals=...)` and a source of the same trials, or give this "
            "run another name"
        )
    if before.trial_scheduler and not scheduled:
        raise InputError(
            f"the trials of the run '{run}' are stopped early by a scheduler in Python ({before.trial_scheduler}), "
            "which its experiment does not name; continue it with `raydisc.run(experiment, trial_scheduler=...)` and "
            "the same scheduler, or give this run another name"
        )


def _run_jobs(
    experiment: Experiment,
    subject: Subject,
    storage: Storage,
    planner: Planner,
    reporter: LiveReporter,
    spending: Spending,
    note: Callable[[], None],
    lose: Callable[[], NoReturn],
    scheduler: Callable[[], "TrialScheduler | None"],
    examples: Sequence[Trial],
) -> Ended:
    with ray_session(), on_loss(lose), on_sigterm(interrupt):
        from raydisc.runtime.cluster import arithmetic_of, await_room, worker_memory
        from raydisc.runtime.trainable import Run
        from raydisc.runtime.tuning import tune_jobs

        await_room(experiment.resources, not storage.everywhere, reporter.notice)
        alone = arithmetic_of(experiment.resources)
        memory = worker_memory(experiment.resources)
        layouts = settled_layouts(experiment, subject, [*planner.trials, *examples], alone.precision, memory)
        named = [str(it) if it.workers > 1 else None for it in (layouts.trial, layouts.teacher)]
        arithmetic = replace(alone, layout=named[0], teacher_layout=named[1])
        find = _finder(experiment, storage, reporter)
        data = tokens_first(experiment, subject, storage, arithmetic, find, reporter.notice)
        for notice in notices_of_outputs(experiment, subject, data):
            reporter.notice(notice)
        jobs = Jobs(experiment, subject, arithmetic, find, most=experiment.budget.trials)
        planner.begin(jobs, reporter.expect)
        lam = next((trial.schedule.lam for trial in planner.trials if trial.schedule.lam is not None), DEFAULT_LAM)
        reporter.start(experiment.name, jobs.expected, lam)
        ends = scheduler()
        run = Run(experiment, subject, str(storage), arithmetic, layouts, ends_trials=ends is not None)
        try:
            return tune_jobs(run, planner, reporter, spending, note, ends)
        finally:
            reporter.stop()


def _finder(experiment: Experiment, storage: Storage, reporter: LiveReporter) -> Callable[[str], Artifact | None]:
    """Return a function that finds artifacts; one that was altered is removed if the experiment has it so."""
    store = ArtifactStore(storage)

    def find(key: str) -> Artifact | None:
        try:
            return store.find(key)
        except AlteredArtifact as error:
            if experiment.altered_artifacts == "refuse":
                raise
            with suppress(Held):  # by the process that computes it again
                if not store.discard_altered(key):
                    raise
                reporter.notice(computed_anew(error))
            return None

    return find


def _result(name: str, storage: Storage, trials: Sequence[Trial], ended: Ended) -> RunResult:
    ledger, run = Ledger(storage / "ledger"), storage / name
    write_report(ledger, name, run.path(REPORT), run.path(RESOLVED).read_text())
    run.publish(REPORT)
    students = run / "students"
    finished = [trial.name for trial in trials if students.has(f"{trial.name}/{CARD}")]
    return RunResult(
        name=name,
        comparison=compare(ledger, [name]),
        show=show(ledger, name),
        students={trial: students.path(trial) if storage.everywhere else str(students / trial) for trial in finished},
        places={
            "students": _shown(students),
            "ledger": _shown(ledger.files),
            "report": _shown(run / REPORT),
        },
        failures=ended.failures,
        following=ended.following,
    )


def _shown(place: Storage) -> str:
    """Return a place as people see it from the current folder."""
    here = Path.cwd()
    if place.everywhere and place.folder.is_relative_to(here):
        return str(place.folder.relative_to(here))
    return str(place)
