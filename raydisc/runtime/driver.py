"""The driver: checks an experiment, runs its plan, gathers what it left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from raydisc.experiment import Experiment
from raydisc.forecast.layouts import settled_layouts
from raydisc.report.compare import compare
from raydisc.report.html import write_report
from raydisc.report.ledger import Ledger
from raydisc.report.live import LiveReporter
from raydisc.report.runs import RunState, State, read_state
from raydisc.report.show import show
from raydisc.runtime.folder import claimed_folder, storage_folder
from raydisc.runtime.machine import refuse_beyond_machine
from raydisc.runtime.plan import Ended, make_plan, within
from raydisc.runtime.session import ray_session, starts_here
from raydisc.runtime.signals import interrupt, on_sigterm
from raydisc.runtime.spending import Spending
from raydisc.schedules.trials import Trial, expand
from raydisc.settings import ResourcesConfig
from raydisc.stages.store import ArtifactStore
from raydisc.stages.subject import Subject, inspect, student_scales
from raydisc.tradeoff import DEFAULT_LAM


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        name: the run's.
        comparison: one row for each schedule, path and seed, as ``raydisc compare --json`` prints them.
        show: what ``raydisc show --json`` prints: stages, candidates, trials.
        students: the folder of each finished student by trial name, for ``raydisc.load_student``.
        places: where students, ledger and report lie.
        failures: one sentence for each job that failed.
        following: names of the jobs that were not run to their end, as the budget was spent; they are run once there is
            more of it.
    """

    name: str
    comparison: list[dict[str, Any]]
    show: dict[str, Any]
    students: dict[str, Path]
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
    storage_folder(experiment.storage)
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


def run_experiment(experiment: Experiment, reporter: LiveReporter | None = None) -> RunResult:
    """Run an experiment, or go on with it where it was; finished stages are not computed again.

    Where its budget is spent it stops, and the result says what would be next.

    Args:
        experiment: what to run.
        reporter: shows progress; plain lines on standard error unless given.

    Raises:
        InputError: the experiment, its data, its teacher, the storage or the resources cannot work.
        KeyboardInterrupt: the run was interrupted; it goes on when it is run again.
    """
    reporter = reporter or LiveReporter(plain=True)
    experiment = experiment.with_absolute_paths()
    storage = storage_folder(experiment.storage)
    _refuse_beyond_machine(experiment.resources)
    subject, trials = _inspected(experiment)
    with claimed_folder(storage, experiment) as folder:
        for notice in (*experiment.notices(), *subject.notices):
            reporter.notice(notice)

        before = read_state(folder)
        ledger = Ledger(storage / "ledger")
        spending = Spending(experiment.budget, ledger, experiment.name, before.wall_seconds if before else 0.0)

        def note(state: State = "running") -> None:
            RunState(subject.task_name, state, len(trials), spending.wall_seconds).write(folder)

        note()
        try:
            ended = _run_plan(experiment, subject, storage, trials, reporter, spending, note)
        except BaseException as error:
            note("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        note("stopped: budget" if ended.following else "failed" if ended.failures else "finished")
        return _result(experiment.name, storage, trials, ended)


def _run_plan(
    experiment: Experiment,
    subject: Subject,
    storage: Path,
    trials: Sequence[Trial],
    reporter: LiveReporter,
    spending: Spending,
    note: Callable[[], None],
) -> Ended:
    with ray_session(), on_sigterm(interrupt):
        from raydisc.runtime.cluster import arithmetic_of, refuse_beyond_cluster, worker_memory
        from raydisc.runtime.trainable import Run
        from raydisc.runtime.tuning import tune_jobs

        refuse_beyond_cluster(experiment.resources)
        alone = arithmetic_of(experiment.resources)
        memory = worker_memory(experiment.resources)
        layouts = settled_layouts(experiment, subject, trials, alone.precision, memory)
        named = [str(it) if it.workers > 1 else None for it in (layouts.trial, layouts.teacher)]
        arithmetic = replace(alone, layout=named[0], teacher_layout=named[1])
        plan = make_plan(experiment, subject, trials, arithmetic, ArtifactStore(storage).find)
        jobs = within(plan, experiment.budget.trials)
        lam = next((trial.lam for trial in trials if trial.lam is not None), DEFAULT_LAM)
        reporter.start(experiment.name, len(jobs), lam)
        try:
            run = Run(experiment, subject, str(storage), {job.name: job for job in jobs}, arithmetic, layouts)
            ended = tune_jobs(run, jobs, reporter, spending, note)
        finally:
            reporter.stop()
        done = {job.name for job in jobs}.difference(ended.following)
        return replace(ended, following=[job.name for job in plan if job.name not in done])


def _result(name: str, storage: Path, trials: Sequence[Trial], ended: Ended) -> RunResult:
    ledger, folder = Ledger(storage / "ledger"), storage / name
    report = write_report(ledger, name, folder / "report.html", (folder / "experiment.yaml").read_text())
    students = {trial.name: folder / "students" / trial.name for trial in trials}
    here = _relative_to(Path.cwd())
    return RunResult(
        name=name,
        comparison=compare(ledger, [name]),
        show=show(ledger, name),
        students={trial: path for trial, path in students.items() if path.is_dir()},
        places={"students": here(folder / "students"), "ledger": here(ledger.root), "report": here(report)},
        failures=ended.failures,
        following=ended.following,
    )


def _relative_to(current: Path) -> Callable[[Path], str]:
    return lambda path: str(path.relative_to(current)) if path.is_relative_to(current) else str(path)
