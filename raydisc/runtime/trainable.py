"""The Tune trainable: runs one job of a plan in its own process."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
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
from raydisc.runtime.job_folder import enter_job_folder
from raydisc.runtime.liveness import leave_on_loss
from raydisc.runtime.metric_reports import MetricReports
from raydisc.runtime.ray_internals import mix_into_trainable
from raydisc.runtime.reports import AlteredFound, JobEnded, JobStopped, Report, to_result
from raydisc.schedules.search import Ready
from raydisc.schedules.steps import Outcome, Steps
from raydisc.schedules.trials import preparation, steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor, StageEvent, Workers
from raydisc.stages.facts import EvaluatedFacts
from raydisc.stages.problem import Subject
from raydisc.stages.store import AlteredArtifact, ArtifactStore, computed_anew
from raydisc.stages.worker import Worker
from raydisc.storage.address import open_storage
from raydisc.storage.faults import sentence
from raydisc.storage.folder import Held, Storage
from raydisc.storage.masking import masked
from raydisc.training.checkpoint import progress_in
from raydisc.training.execution import Execution
from raydisc.training.progress import Evaluated, Event, Notice, Ranked, step_of

_REPORT_EVERY_S = 0.5
_REPORT_SHARE = 20
"""The pause after a report, in times that the report took: it waits for the driver, which serves all trials."""

_REPORT_AT_LEAST_EVERY_S = 30.0
"""The longest pause: a trial that reports nothing is taken to hang."""


@dataclass(frozen=True)
class Run:
    """The facts that all jobs of a run share.

    Attributes:
        experiment: The resolved experiment.
        subject: Its task and its teacher.
        storage: The storage's path or address.
        arithmetic: The arithmetic that stages are computed in.
        layouts: The layouts of workers.
        ends_trials: Whether a scheduler may end trials early.
    """

    experiment: Experiment
    subject: Subject
    storage: str
    arithmetic: Arithmetic
    layouts: Layouts = Layouts()
    ends_trials: bool = False

    def layout_of(self, job: Job) -> Layout:
        """Return the layout of a job's workers."""
        return self.layouts.teacher if job.of_teacher else self.layouts.trial

    @property
    def device(self) -> torch.device:
        """The device of a trial with one worker."""
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
    """Passes a stage's events on to Tune, not more often than people can read; its begin and candidates always.

    It keeps the last event, so that a failure can name its stage.

    Args:
        report: Reports to Tune.
    """

    def __init__(self, report: Callable[[StageEvent], None]) -> None:
        """Start without an event."""
        self._report = report
        self.last: StageEvent | None = None
        self.since = time.monotonic()
        self._reported, self._pause = 0.0, _REPORT_EVERY_S

    def __call__(self, found: StageEvent) -> None:
        """Take an event of the running stage."""
        now, begins = time.monotonic(), self.last is None or found.key != self.last.key
        if begins:
            self.since = now
        self.last = found
        if begins or _is_shown_at_once(found.event) or now - self._reported > self._pause:
            self._report(found)
            self._reported = time.monotonic()
            self._pause = report_pause(self._reported - now)


def _is_shown_at_once(event: Event) -> bool:
    return isinstance(event, Notice | Ranked) or (isinstance(event, Evaluated) and event.evaluation.candidates != ())


def report_pause(took_s: float) -> float:
    """Return the seconds until the next report, after one that took ``took_s``."""
    return min(max(_REPORT_EVERY_S, _REPORT_SHARE * took_s), _REPORT_AT_LEAST_EVERY_S)


def _report(report: Report) -> None:
    tune.report(to_result(report))


def run_job(config: dict[str, Any], run: Run, copies: Any) -> None:
    """Run a job; a failure ends it with a sentence, not with an exception, and leaves the other jobs running.

    Args:
        config: The ``job``; the ``inherited_failure`` of a job that it needs; and ``inherited_stop``, whether the rival
            of its trial was stopped early.
        run: The run.
        copies: The handle of the ``HotCopies`` actor.
    """
    leave_on_loss()
    enter_job_folder()
    job: Job = config["job"]
    bound_threads(run.experiment.resources.cpus)
    reporting = Reporting(_report)
    metrics = MetricReports(
        _report,
        lambda evaluation: run.ends_trials and _is_ended(job, copies, evaluation),
        None if job.trial is None else job.trial.student_scale,
    )
    try:
        executor, recorder = _equipped(job, run, copies, reporting, metrics)
    except (OSError, InputError, StorageError) as error:
        _report(JobEnded(failure=sentence(error, run.storage) or masked(str(error))))
        return
    inherited = failure = config.get("inherited_failure")
    done = JobEnded()
    try:
        if failure is None:
            done = _stopped_before(config, run, recorder) or _perform_whole(job, run, executor, recorder, metrics)
    except Stopped as stop:
        if is_going():
            leave()
        early = _stopped_early(stop, metrics) if metrics.ended else None
        try:
            _record_stop(executor.store, run.layout_of(job), str(stop), recorder, reporting)
            if early is not None and job.trial is not None:
                recorder.stopped_trial(job.trial, run.subject, early.metric, early.message)
        except (OSError, StorageError) as error:
            failure = sentence(error, run.storage) or masked(str(error))
        if early is None:
            _report(JobStopped(str(stop)))
            return
        done = early if failure is None else done
    except (InputError, NonFiniteLoss, OutOfMemory, StorageError) as error:
        failure = str(error)
    except Exception as error:
        failure = sentence(error, run.storage) or masked(f"{type(error).__name__}: {error}{_keep_traceback(run, job)}")
    if failure is not None:
        try:
            _record_failure(job, run, failure, recorder, reporting if inherited is None else None)
        except (OSError, StorageError) as error:
            if sentence(error, run.storage) != failure:  # which says it already
                failure = f"{failure} (and the ledger cannot be written: {masked(str(error))})"
    _report(replace(done, failure=failure))


def _stopped_early(stop: Stopped, metrics: MetricReports) -> JobEnded:
    curve = tuple(metrics.curve)
    return JobEnded(f"stopped early ({stop})", metrics.last, stopped_early=True, flops=metrics.flops, curve=curve)


def _is_ended(job: Job, copies: Any, evaluation: int) -> bool:
    try:
        return bool(ray.get(copies.is_ended.remote(job.name, evaluation)))
    except ray.exceptions.RayError:  # the actor is being restarted
        return False


def _stopped_before(config: dict[str, Any], run: Run, recorder: Recorder) -> JobEnded | None:
    """Return the end of a trial that is not to be run: it was stopped early before, or its rival was."""
    job: Job = config["job"]
    if job.trial is None or not job.is_trial:
        return None
    row = recorder.stopped_before(job.trial)
    if row is not None:
        return JobEnded(row["message"], row["validation_metric"], stopped_early=True)
    if not config.get("inherited_stop"):
        return None
    done = JobEnded("stopped early with the trial that it stands beside", stopped_early=True)
    recorder.stopped_trial(job.trial, run.subject, done.metric, done.message)
    return done


def _equipped(
    job: Job, run: Run, copies: Any, reporting: Reporting, metrics: MetricReports
) -> tuple[Executor, Recorder]:
    """Return the executor of a job's stages, and the recorder that writes them down.

    Raises:
        StorageError: The storage cannot be reached.
        OSError: This machine's folder for it cannot be written.
    """
    resources, layout, asked = run.experiment.resources, run.layout_of(job), StopAsked(copies)

    def stops() -> bool:
        return is_going() or asked() or metrics.ended

    execution = Execution.of(resources, run.experiment.teacher_outputs, run.arithmetic.precision)
    storage = open_storage(run.storage)
    store, ledger = hot_store(storage, copies), Ledger(storage / "ledger")
    workers: Workers = Worker(store, run.device, execution, stops=stops)
    if layout.workers > 1:
        patience_s = max(START_TIMEOUT_S, 60 * resources.wait_minutes)
        workers = gang_of(Team(layout, resources, execution, run.storage, patience_s), copies, stops)
    recorder = Recorder(ledger, store, run.experiment.name, job.name, run.arithmetic, run.subject.metric)

    def progress(found: StageEvent) -> None:
        reporting(found)
        if job.is_trial:
            metrics.progress(found)

    def on_stage(stage: Stage, artifact: Artifact, found: bool) -> None:
        recorder.stage(stage, artifact, found)
        if job.is_trial:
            metrics.finished(stage, artifact)

    return Executor(store, workers, run.arithmetic, progress, on_stage, stops), recorder


mix_into_trainable(run_job, Preemptible)


def _record_stop(store: ArtifactStore, layout: Layout, message: str, recorder: Recorder, reporting: Reporting) -> None:
    """Write what the stage that was broken off has cost; one that ended before is in the ledger already."""
    last = reporting.last
    if last is not None and store.find(last.key) is None:
        seconds = time.monotonic() - reporting.since
        flops = _flops_so_far(store, last)
        recorder.stopped_stage(last.key, last.stage, message, seconds * layout.workers, seconds, flops)


def _flops_so_far(store: ArtifactStore, last: StageEvent) -> float:
    """Return the FLOPs of a stage up to its checkpoint; 0 without one here, or where another process computes it."""
    state = progress_in(store.checkpoint_folder(last.key)) if step_of(last.event) else None
    return state.flops if state is not None else 0.0


def _record_failure(job: Job, run: Run, failure: str, recorder: Recorder, reporting: Reporting | None) -> None:
    if reporting is not None and reporting.last is not None:
        seconds = time.monotonic() - reporting.since
        recorder.failed_stage(reporting.last.key, reporting.last.stage, failure, seconds)
    if job.trial is not None and job.is_trial:
        recorder.failed_trial(job.trial, run.subject, failure)


def _perform_whole(job: Job, run: Run, executor: Executor, recorder: Recorder, metrics: MetricReports) -> JobEnded:
    """Do what the job is for; once altered artifacts are removed, do it again from its start."""
    if run.layout_of(job).workers == 1:
        refuse_without(run.arithmetic.precision, run.device)
    removed: set[str] = set()
    while True:
        try:
            return _perform(job, run, executor, recorder, metrics)
        except AlteredArtifact as error:
            if run.experiment.altered_artifacts == "refuse" or error.key in removed:
                raise
            try:
                if executor.store.discard_altered(error.key):  # else another job was faster
                    _report(AlteredFound(error.key, computed_anew(error)))
                removed.add(error.key)
            except Held:  # by a job that computes it again
                _report(AlteredFound(error.key))
                time.sleep(_REPORT_EVERY_S)


def _perform(job: Job, run: Run, executor: Executor, recorder: Recorder, metrics: MetricReports) -> JobEnded:
    """Do what the job is for."""
    if job.test:
        return JobEnded(_found(_test(job, run, executor, recorder)))
    if job.trial is None:
        return JobEnded(_found(executor.run(_preparation(job, run)).finetuned))
    if job.until is not None:
        executor.run(_up_to(steps_of(job.trial, run.experiment, run.subject), job.until))
        return JobEnded()
    outcome = executor.run(metrics.heard(steps_of(job.trial, run.experiment, run.subject)))
    recorder.trial(job.trial, run.subject, outcome)
    ready: Ready = executor.run(_preparation(job, run))
    if job.trial.leaves_student:
        export_student(executor.store, ready.data, job.trial, outcome, run.files / "students")
    flops, metric = sum(artifact.flops for artifact in outcome.own), EvaluatedFacts.of(outcome.student).last.metric
    return JobEnded(_found(outcome.student), metric, flops=flops, curve=tuple(metrics.curve))


def _found(artifact: Artifact | None) -> str:
    if artifact is None:
        return "nothing to test"
    last = EvaluatedFacts.of(artifact).last
    return f"{last.split} {last.metric:.3f} ±{last.se:.3f}"


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
        ready: Ready = executor.run(_preparation(job, run))
        return executor.execute(Evaluate(ready.data, ready.finetuned))
    rows = Ledger(open_storage(run.storage) / "ledger").rows("trials", run=run.experiment.name, trial=job.trial.name)
    if not rows or rows[0]["state"] != "finished":
        return None
    ready = executor.run(_preparation(job, run))
    outcome = executor.run(steps_of(job.trial, run.experiment, run.subject))
    test = executor.execute(Evaluate(ready.data, outcome.student))
    recorder.trial(job.trial, run.subject, outcome, test=test)
    return test


def _preparation(job: Job, run: Run) -> Steps[Ready]:
    """Return the steps that the job's teacher is prepared by."""
    return preparation(run.experiment, run.subject, job.by_teacher)


def _keep_traceback(run: Run, job: Job) -> str:
    """Keep the traceback, and return its place for the message; empty where it cannot be kept."""
    errors, name = run.files / "errors", f"{job.name}.txt"
    try:
        errors.folder.mkdir(parents=True, exist_ok=True)
        errors.path(name).write_text(masked(traceback.format_exc()))
        errors.publish(name)
    except (OSError, StorageError):
        return ""
    return f" (in {errors / name})"
