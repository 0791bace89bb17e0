"""The driver: one Ray Tune experiment that runs a plan."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raydisc.errors import InputError
from raydisc.experiment import Experiment, load_experiment
from raydisc.report.compare import compare
from raydisc.report.html import write_report
from raydisc.report.ledger import Ledger
from raydisc.report.live import LiveReporter
from raydisc.report.runs import RunState
from raydisc.report.show import show
from raydisc.runtime.plan import Job, make_plan
from raydisc.runtime.session import ray_session
from raydisc.schedules.trials import Trial, expand
from raydisc.stages.store import ArtifactStore
from raydisc.stages.subject import Subject, inspect, student_scales
from raydisc.tradeoff import DEFAULT_LAM

_LEAST_FREE_BYTES = 2**28
_CRASHES_FORGIVEN = 2
_HOT_SHARE = 0.6
"""Of the object store, for artifacts; Ray and Tune need some of it too."""


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
    """

    name: str
    comparison: list[dict[str, Any]]
    show: dict[str, Any]
    students: dict[str, Path]
    places: dict[str, str]
    failures: list[str]

    @property
    def dataframe(self) -> pd.DataFrame:
        """The comparison as a table."""
        return pd.DataFrame(self.comparison)


def check_experiment(experiment: Experiment) -> list[str]:
    """Everything that can be refused before any training; gives notices.

    Raises:
        InputError: one sentence.
    """
    subject, _ = _inspected(experiment)
    return [*experiment.notices(), *subject.notices]


def _inspected(experiment: Experiment) -> tuple[Subject, list[Trial]]:
    subject = inspect(experiment)
    return subject, expand(experiment, student_scales(experiment, subject))


def run_experiment(experiment: Experiment, reporter: LiveReporter | None = None) -> RunResult:
    """Run an experiment, or go on with it where it was; finished stages are not computed again.

    Args:
        experiment: what to run.
        reporter: shows progress; a plain one on standard error unless given.

    Raises:
        InputError: the experiment, its data, its teacher, the storage or the resources cannot work.
        KeyboardInterrupt: the run was interrupted; it goes on when it is run again.
    """
    reporter = reporter or LiveReporter(plain=True)
    subject, trials = _inspected(experiment)
    storage = Path(experiment.storage).absolute()
    folder = _claim(storage, experiment)
    for notice in (*experiment.notices(), *subject.notices):
        reporter.notice(notice)
    threads = None if experiment.resources.gpus else experiment.resources.cpus
    jobs = make_plan(experiment, subject, trials, threads, ArtifactStore(storage).find)

    def noted(state: Any) -> None:
        RunState(task=subject.task_name, state=state, trials=len(trials)).write(folder)

    noted("running")
    try:
        failures = _tune(experiment, subject, storage, trials, jobs, reporter)
    except BaseException as error:
        noted("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    noted("failed" if failures else "finished")
    return _result(experiment.name, storage, trials, failures)


def _claim(storage: Path, experiment: Experiment) -> Path:
    """The run's folder, with the resolved experiment in it.

    Raises:
        InputError: the storage cannot be written, is full, or has a run of this name with another experiment.
    """
    folder = storage / experiment.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise InputError(f"storage: '{experiment.storage}' cannot be written ({error.strerror})") from error
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise InputError(
            f"storage: '{experiment.storage}' has {free / 2**20:.0f} MiB left; a run needs at least "
            f"{_LEAST_FREE_BYTES / 2**20:.0f} MiB"
        )
    resolved = folder / "experiment.yaml"
    if resolved.is_file() and load_experiment(resolved).fingerprint() != experiment.fingerprint():
        raise InputError(
            f"name: a run '{experiment.name}' with another experiment lies in '{experiment.storage}'; "
            "give this one another name (--name), or remove that folder"
        )
    temporary = folder / f".experiment-{os.getpid()}.yaml"
    temporary.write_text(experiment.to_yaml())
    temporary.replace(resolved)
    return folder


def _tune(
    experiment: Experiment,
    subject: Subject,
    storage: Path,
    trials: Sequence[Trial],
    jobs: Sequence[Job],
    reporter: LiveReporter,
) -> list[str]:
    """Run the jobs as trials of one Tune experiment; gives the failures."""
    with ray_session():
        import ray
        from ray import tune

        from raydisc.runtime.hot_store import HotCopies
        from raydisc.runtime.live import ReporterCallback
        from raydisc.runtime.searcher import PlanSearcher
        from raydisc.runtime.trainable import Run, run_job

        resources = experiment.resources
        _refuse_too_much(ray.cluster_resources(), resources.cpus, resources.gpus)
        by_name = {job.name: job for job in jobs}
        hot_copies: Any = HotCopies
        capacity = ray.cluster_resources().get("object_store_memory", 2**30) * _HOT_SHARE
        copies = hot_copies.remote(str(storage), int(capacity))
        callback = ReporterCallback(reporter, by_name)
        at_once = None if resources.trials == "auto" else resources.trials
        trainable = tune.with_parameters(run_job, run=Run(experiment, subject, str(storage), by_name), copies=copies)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=PlanSearcher(list(jobs), at_once), num_samples=len(jobs), reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(storage / experiment.name),
                verbose=0,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=_CRASHES_FORGIVEN),
            ),
        )
        reporter.start(experiment.name, len(jobs), lam=next((trial.lam for trial in trials if trial.lam), DEFAULT_LAM))
        try:
            tuner.fit()
        finally:
            reporter.stop()
        if callback.ended < len(jobs):
            raise KeyboardInterrupt
        return [f"{by_name[name].label}: {failure}" for name, failure in callback.failures.items()]


def _refuse_too_much(cluster: dict[str, float], cpus: int, gpus: float) -> None:
    """Tune would wait for ever for what the cluster does not have."""
    for name, asked, has in (("cpus", cpus, cluster.get("CPU", 0)), ("gpus", gpus, cluster.get("GPU", 0))):
        if asked > has:
            raise InputError(f"resources.{name}: a trial asks for {asked:g}, but the cluster has {has:g}")


def _result(name: str, storage: Path, trials: Sequence[Trial], failures: list[str]) -> RunResult:
    ledger, folder = Ledger(storage / "ledger"), storage / name
    report = write_report(ledger, name, folder / "report.html", (folder / "experiment.yaml").read_text())
    students = {trial.name: folder / "students" / trial.name for trial in trials}
    here = _relative(Path.cwd())
    return RunResult(
        name=name,
        comparison=compare(ledger, [name]),
        show=show(ledger, name),
        students={trial: path for trial, path in students.items() if path.is_dir()},
        places={"students": here(folder / "students"), "ledger": here(ledger.root), "report": here(report)},
        failures=failures,
    )


def _relative(current: Path) -> Callable[[Path], str]:
    return lambda path: str(path.relative_to(current)) if path.is_relative_to(current) else str(path)
