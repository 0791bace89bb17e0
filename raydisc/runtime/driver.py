"""The driver: checks an experiment, runs its plan, gathers what it left."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from raydisc.config.experiment import Experiment
from raydisc.config.sections import ResourcesConfig
from raydisc.errors import StorageError
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
from raydisc.runs.jobs import Ended, make_plan, within
from raydisc.runs.machine import refuse_beyond_machine
from raydisc.runs.termination import interrupt, on_sigterm
from raydisc.runtime.liveness import on_loss
from raydisc.runtime.session import ray_session, starts_here
from raydisc.schedules.base import Trial
from raydisc.schedules.trials import expand
from raydisc.stages.artifact import Artifact
from raydisc.stages.problem import Subject, inspect, student_scales
from raydisc.stages.store import AlteredArtifact, ArtifactStore, computed_anew
from raydisc.storage.address import open_storage
from raydisc.storage.faults import sentence
from raydisc.storage.folder import Held, Storage
from raydisc.tradeoff import DEFAULT_LAM

REPORT = "report.html"
"""The report in a run's folder."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        name: the run's.
        comparison: one row for each schedule, path and seed, as ``raydisc compare --json`` prints them.
        show: what ``raydisc show --json`` prints: stages, candidates, trials.
        students: the folder of each finished student by trial name, for ``raydisc.load_student``; or its address.
        places: where students, ledger and report lie.
        failures: one sentence for each job that failed.
        following: names of the jobs that were not run to their end, as the budget was spent; they are run once there is
            more of it.
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
    """Everything that can be refused before any training; gives notices.

    Raises:
        InputError: one sentence.
    """
    open_storage(experiment.storage)
    _refuse_beyond_machine(experiment.resources)
    subject, _ = _inspected(experiment)
    return [*experiment.notices(), *subject.notices]


def _refuse_beyond_machine(resources: ResourcesConfig) -> None:
    """What another machine's trials may have is known once Ray has been joined."""
    if starts_here():
        refuse_beyond_machine(resources)


def _inspected(experiment: Experiment) -> tuple[Subject, list[Trial]]:
    subject = inspect(experiment)
    return subject, expand(experiment, student_scales(experiment, subject))


def run_experiment(experiment: Experiment, reporter: LiveReporter | None = None, keep_names: bool = False) -> RunResult:
    """Run an experiment, or go on with it where it was; finished stages are not computed again.

    Where its budget is spent it stops, and the result says what would be next.

    Args:
        experiment: what to run.
        reporter: shows progress; plain lines on standard error unless given.
        keep_names: leave relative names of files as they are, for a job whose every process starts in one folder.

    Raises:
        InputError: the experiment, its data, its teacher, the storage or the resources cannot work.
        StorageError: the storage has failed meanwhile.
        KeyboardInterrupt: the run was interrupted; it goes on when it is run again.
    """
    reporter = reporter or LiveReporter(plain=True)
    experiment = experiment if keep_names else experiment.with_absolute_paths()
    storage = open_storage(experiment.storage).absolute()
    _refuse_beyond_machine(experiment.resources)
    subject, trials = _inspected(experiment)
    try:
        return _run_claimed(experiment, subject, storage, trials, reporter)
    except OSError as error:
        told = sentence(error, str(storage))
        if told is None:
            raise
        raise StorageError(told) from error


def _run_claimed(
    experiment: Experiment, subject: Subject, storage: Storage, trials: Sequence[Trial], reporter: LiveReporter
) -> RunResult:
    with claimed_folder(storage, experiment) as folder:
        for notice in (*experiment.notices(), *subject.notices):
            reporter.notice(notice)

        before = read_state(folder)
        ledger = Ledger(storage / "ledger")
        spending = Spending(experiment.budget, ledger, experiment.name, before.wall_seconds if before else 0.0)

        def note(state: State = "running") -> None:
            RunState(subject.task_name, state, len(trials), spending.wall_seconds).write(folder)

        def lose() -> NoReturn:
            with suppress(OSError, StorageError):
                note("interrupted")
            reporter.notice(
                f"the Ray cluster does not answer any more; go on with `raydisc resume {experiment.name}`, "
                "there once it does or on another"
            )
            reporter.stop()
            os._exit(STOPPED)

        note()
        try:
            ended = _run_plan(experiment, subject, storage, trials, reporter, spending, note, lose)
        except BaseException as error:
            with suppress(OSError, StorageError):  # the first error counts
                note("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        note("stopped: budget" if ended.following else "failed" if ended.failures else "finished")
        return _result(experiment.name, storage, trials, ended)


def _run_plan(
    experiment: Experiment,
    subject: Subject,
    storage: Storage,
    trials: Sequence[Trial],
    reporter: LiveReporter,
    spending: Spending,
    note: Callable[[], None],
    lose: Callable[[], NoReturn],
) -> Ended:
    with ray_session(), on_loss(lose), on_sigterm(interrupt):
        from raydisc.runtime.cluster import arithmetic_of, await_room, worker_memory
        from raydisc.runtime.trainable import Run
        from raydisc.runtime.tuning import tune_jobs

        await_room(experiment.resources, not storage.everywhere, reporter.notice)
        alone = arithmetic_of(experiment.resources)
        memory = worker_memory(experiment.resources)
        layouts = settled_layouts(experiment, subject, trials, alone.precision, memory)
        named = [str(it) if it.workers > 1 else None for it in (layouts.trial, layouts.teacher)]
        arithmetic = replace(alone, layout=named[0], teacher_layout=named[1])
        plan = make_plan(experiment, subject, trials, arithmetic, _finder(experiment, storage, reporter))
        jobs = within(plan, experiment.budget.trials)
        lam = next((trial.schedule.lam for trial in trials if trial.schedule.lam is not None), DEFAULT_LAM)
        reporter.start(experiment.name, len(jobs), lam)
        try:
            run = Run(experiment, subject, str(storage), {job.name: job for job in jobs}, arithmetic, layouts)
            ended = tune_jobs(run, jobs, reporter, spending, note)
        finally:
            reporter.stop()
        done = {job.name for job in jobs}.difference(ended.following)
        return replace(ended, following=[job.name for job in plan if job.name not in done])


def _finder(experiment: Experiment, storage: Storage, reporter: LiveReporter) -> Callable[[str], Artifact | None]:
    """Finds artifacts; one that was altered is computed anew if the user has it so."""
    store = ArtifactStore(storage)

    def find(key: str) -> Artifact | None:
        try:
            return store.find(key)
        except AlteredArtifact as error:
            if experiment.altered_artifacts == "refuse":
                raise
            with suppress(Held):  # by who computes it anew
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
    """As people see it from where they are."""
    here = Path.cwd()
    if place.everywhere and place.folder.is_relative_to(here):
        return str(place.folder.relative_to(here))
    return str(place)
