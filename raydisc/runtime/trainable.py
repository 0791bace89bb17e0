"""The Tune trainable: runs one job of a plan in its own process."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError, NonFiniteLoss, OutOfMemory, Stopped, StorageError
from raydisc.forecast.layouts import Layouts
from raydisc.models.precision import Arithmetic
from raydisc.parallel.mesh import Layout
from raydisc.report.ledger import Ledger
from raydisc.runs.export import export_student
from raydisc.runs.jobs import Job
from raydisc.runs.machine import bound_threads, refuse_without
from raydisc.runs.recorder import Recorder
from raydisc.runs.termination import Preemptible, is_going, leave
from raydisc.runtime.callbacks.stopping import StopAsked
from raydisc.runtime.gang import START_TIMEOUT_S, Team, gang_of
from raydisc.runtime.hot_store import hot_store
from raydisc.runtime.liveness import leave_on_loss
from raydisc.runtime.ray_internals import mix_into_trainable
from raydisc.schedules.base import Trial
from raydisc.schedules.search import Ready, Search
from raydisc.schedules.steps import Outcome, Steps
from raydisc.schedules.trials import steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor, Workers
from raydisc.stages.facts import EvaluatedFacts
from raydisc.stages.problem import Subject
from raydisc.stages.store import AlteredArtifact, ArtifactStore, computed_anew
from raydisc.stages.worker import Worker
from raydisc.storage.address import open_storage
from raydisc.storage.faults import sentence
from raydisc.storage.folder import Held, Storage
from raydisc.storage.masking import masked
from raydisc.training.execution import Execution

_REPORT_EVERY_S = 0.5
_REPORT_SHARE = 20
"""So many times longer than a report has taken: it waits for the driver, which hears of all trials of a cluster."""

_REPORT_AT_LEAST_EVERY_S = 30.0
"""Who tells of nothing is taken to hang."""


@dataclass(frozen=True)
class Run:
    """What every job of a run is given.

    Attributes:
        experiment: the resolved experiment.
        subject: its task and teacher.
        storage: its path or address.
        jobs: the plan, by name.
        arithmetic: in which stages are computed.
        layouts: of workers.
    """

    experiment: Experiment
    subject: Subject
    storage: str
    jobs: dict[str, Job]
    arithmetic: Arithmetic
    layouts: Layouts = Layouts()

    def layout_of(self, job: Job) -> Layout:
        """How the workers of a job are laid out."""
        return self.layouts.teacher if job.of_teacher else self.layouts.trial

    @property
    def device(self) -> torch.device:
        """What a trial of one worker computes on."""
        return torch.device("cuda" if self.experiment.resources.gpus else "cpu")

    @property
    def folder(self) -> Path:
        """The run's own folder on this machine."""
        return self.files.folder

    @property
    def files(self) -> Storage:
        """The run's own part of the storage."""
        return open_storage(self.storage) / self.experiment.name


class Reporting:
    """Passes a stage's state on to Tune, not more often than people can read; its begin and candidates always.

    Keeps what it last heard, so that a failure can name its stage.

    Args:
        tell: Tune's way to report.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Start with nothing heard."""
        self._tell = tell
        self.last: dict[str, Any] = {}
        self.since = time.monotonic()
        self._told, self._pause = 0.0, _REPORT_EVERY_S

    def __call__(self, state: dict[str, Any]) -> None:
        """Take the state of the running stage."""
        now, begins = time.monotonic(), state["key"] != self.last.get("key")
        if begins:
            self.since = now
        self.last = state
        if begins or {"candidates", "notice"} & set(state) or now - self._told > self._pause:
            self._tell({name: value for name, value in state.items() if name != "evaluations"})
            self._told = time.monotonic()
            self._pause = report_pause(self._told - now)


def report_pause(took_s: float) -> float:
    """Seconds until the next report, after one that took so many."""
    return min(max(_REPORT_EVERY_S, _REPORT_SHARE * took_s), _REPORT_AT_LEAST_EVERY_S)


def run_job(config: dict[str, Any], run: Run, copies: Any) -> None:
    """Run a job; a failure ends it with a sentence, not with an exception, and leaves the other jobs running.

    Args:
        config: ``job``, its name, and ``inherited_failure`` of a job that it waited for.
        run: the run.
        copies: the handle of the ``HotCopies`` actor.
    """
    leave_on_loss()
    job = run.jobs[config["job"]]
    bound_threads(run.experiment.resources.cpus)
    reporting = Reporting(tune.report)
    try:
        executor, recorder = _equipped(job, run, copies, reporting)
    except (OSError, InputError, StorageError) as error:
        told = sentence(error, run.storage) or masked(str(error))
        tune.report({"stage": "done", "key": "", "failure": told, "message": ""})
        return
    failure, message = config.get("inherited_failure"), ""
    try:
        if failure is None:
            if run.layout_of(job).workers == 1:
                refuse_without(run.arithmetic.precision, run.device)
            message = _perform_whole(job, run, executor, recorder)
    except Stopped as stop:
        if is_going():
            leave()
        _record_stop(executor.store, run.layout_of(job), str(stop), recorder, reporting)
        tune.report({"stage": "done", "key": "", "stopped": True, "message": str(stop)})
        return
    except (InputError, NonFiniteLoss, OutOfMemory, StorageError) as error:
        failure = str(error)
    except Exception as error:
        failure = sentence(error, run.storage) or masked(f"{type(error).__name__}: {error}{_keep_traceback(run, job)}")
    if failure is not None:
        try:
            _record_failure(job, run, failure, recorder, reporting if config.get("inherited_failure") is None else None)
        except (OSError, StorageError) as error:
            if sentence(error, run.storage) != failure:  # which says it already
                failure = f"{failure} (and the ledger cannot be written: {masked(str(error))})"
    tune.report({"stage": "done", "key": "", "failure": failure, "message": message})


def _equipped(job: Job, run: Run, copies: Any, reporting: Reporting) -> tuple[Executor, Recorder]:
    """What computes a job's stages, and what writes them down.

    Raises:
        StorageError: the storage cannot be reached.
        OSError: this machine's folder for it cannot be written.
    """
    resources, layout, asked = run.experiment.resources, run.layout_of(job), StopAsked(copies)

    def stops() -> bool:
        return is_going() or asked()

    execution = Execution.of(resources, run.arithmetic.precision)
    storage = open_storage(run.storage)
    store, ledger = hot_store(storage, copies), Ledger(storage / "ledger")
    workers: Workers = Worker(store, run.device, execution, stops=stops)
    if layout.workers > 1:
        patience_s = max(START_TIMEOUT_S, 60 * resources.wait_minutes)
        workers = gang_of(Team(layout, resources, execution, run.storage, patience_s), copies, stops)
    recorder = Recorder(ledger, store, run.experiment.name, job.name, run.arithmetic, run.subject.metric)
    return Executor(store, workers, run.arithmetic, reporting, recorder.stage, stops), recorder


mix_into_trainable(run_job, Preemptible)


def _record_stop(store: ArtifactStore, layout: Layout, message: str, recorder: Recorder, reporting: Reporting) -> None:
    """What the stage that was broken off has cost; one that ended before the stop is in the ledger already."""
    key = reporting.last.get("key")
    if key is not None and store.find(key) is None:
        seconds = time.monotonic() - reporting.since
        recorder.stopped_stage(key, reporting.last["stage"], message, seconds * layout.workers, seconds)


def _record_failure(job: Job, run: Run, failure: str, recorder: Recorder, reporting: Reporting | None) -> None:
    if reporting is not None and reporting.last:
        seconds = time.monotonic() - reporting.since
        recorder.failed_stage(reporting.last["key"], reporting.last["stage"], failure, seconds)
    if job.trial is not None and job.until is None and not job.test:
        recorder.trial(job.trial, run.subject, None, failure)


def _perform_whole(job: Job, run: Run, executor: Executor, recorder: Recorder) -> str:
    """Do what the job is for; from its start, where finished stages are found, once what was altered is removed."""
    removed: set[str] = set()
    while True:
        try:
            return _perform(job, run, executor, recorder)
        except AlteredArtifact as error:
            if run.experiment.altered_artifacts == "refuse" or error.key in removed:
                raise
            try:
                if executor.store.discard_altered(error.key):  # else another job was faster
                    tune.report({"stage": "altered", "key": error.key, "notice": computed_anew(error)})
                removed.add(error.key)
            except Held:  # by a job that computes it anew
                tune.report({"stage": "altered", "key": error.key})
                time.sleep(_REPORT_EVERY_S)


def _perform(job: Job, run: Run, executor: Executor, recorder: Recorder) -> str:
    """Do what the job is for; gives what people should hear of it."""
    if job.test:
        return _found(_test(job, run, executor, recorder))
    if job.trial is None:
        return _found(executor.run(_search(run).prepare()).finetuned)
    if job.until is not None:
        executor.run(_up_to(steps_of(job.trial, run.experiment, run.subject), job.until))
        return ""
    outcome = executor.run(steps_of(job.trial, run.experiment, run.subject))
    recorder.trial(job.trial, run.subject, outcome)
    _export(job.trial, run, executor, outcome)
    return _found(outcome.student)


def _found(artifact: Artifact | None) -> str:
    if artifact is None:
        return "nothing to test"
    last = EvaluatedFacts.of(artifact).last
    return f"{last.split} {last.metric:.3f} ±{last.se:.3f}"


def _search(run: Run) -> Search:
    trial = next(job.trial for job in run.jobs.values() if job.trial is not None)
    return Search(run.experiment, run.subject, trial.student_scale, trial.seed)


def _up_to(steps: Steps[Outcome], key: str) -> Steps[None]:
    """Do the steps of a trial until the stage of a key is there."""
    request: Stage = next(steps)
    while True:
        artifact: Artifact = yield request
        if artifact.key == key:
            return
        request = steps.send(artifact)


def _test(job: Job, run: Run, executor: Executor, recorder: Recorder) -> Artifact | None:
    """Read the test split once for a finished student (or the teacher), after all choices are in the ledger."""
    if job.trial is None:
        ready: Ready = executor.run(_search(run).prepare())
        return executor.execute(Evaluate(ready.data, ready.finetuned))
    rows = Ledger(open_storage(run.storage) / "ledger").rows("trials", run=run.experiment.name, trial=job.trial.name)
    if not rows or rows[0]["state"] != "finished":
        return None
    ready = executor.run(_search(run).prepare())
    outcome = executor.run(steps_of(job.trial, run.experiment, run.subject))
    test = executor.execute(Evaluate(ready.data, outcome.student))
    recorder.trial(job.trial, run.subject, outcome, test=test)
    return test


def _export(trial: Trial, run: Run, executor: Executor, outcome: Outcome) -> None:
    ready: Ready = executor.run(_search(run).prepare())
    export_student(executor.store, ready.data, trial, outcome, run.files / "students")


def _keep_traceback(run: Run, job: Job) -> str:
    """Where the traceback is kept, for the message; nothing where it cannot be."""
    errors, name = run.files / "errors", f"{job.name}.txt"
    try:
        errors.folder.mkdir(parents=True, exist_ok=True)
        errors.path(name).write_text(masked(traceback.format_exc()))
        errors.publish(name)
    except (OSError, StorageError):
        return ""
    return f" (in {errors / name})"
