"""A plan as one Ray Tune experiment. Import this inside a ``ray_session``: Ray reads its settings when imported."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import tune

from raydisc.config.sections import ResourcesConfig
from raydisc.parallel.mesh import Layout
from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.budget import Spending
from raydisc.runs.jobs import Ended, Job
from raydisc.runs.termination import on_sigterm
from raydisc.runtime.callbacks.progress import ReporterCallback
from raydisc.runtime.callbacks.retries import CRASHES_FORGIVEN, Forgiveness
from raydisc.runtime.callbacks.stalls import StallWatch
from raydisc.runtime.callbacks.stopping import Overseer
from raydisc.runtime.cluster import Room
from raydisc.runtime.hot_store import HotCopies
from raydisc.runtime.job_searcher import PlanSearcher
from raydisc.runtime.ray_internals import keep_cloud_keys_off_command_lines
from raydisc.runtime.trainable import Run, run_job

_HOT_SHARE = 0.6
"""Of the object store, for artifacts; Ray and Tune need some of it too."""


def tune_jobs(
    run: Run, jobs: Sequence[Job], reporter: LiveReporter, spending: Spending, note: Callable[[], None]
) -> Ended:
    """Run the jobs as trials of one Tune experiment, as many at once as resources allow.

    What Tune keeps of an earlier try is thrown away: finished stages are found by their keys.

    Args:
        run: what every job is given.
        jobs: the plan, or that part of it which is within the budget.
        reporter: shows progress.
        spending: compared with the budget while jobs run.
        note: told when a job has ended.

    Raises:
        KeyboardInterrupt: the experiment was interrupted before every job had ended.
    """
    resources = run.experiment.resources
    copies = _hot_copies(run.storage)
    overseer = Overseer(spending, run.jobs, lambda job: run.layout_of(job).workers, copies, note)
    if overseer.stopping():
        return Ended([], [job.name for job in jobs])
    shutil.rmtree(run.folder / "tune", ignore_errors=True)
    keep_cloud_keys_off_command_lines()
    watch = StallWatch(resources.stall_minutes)
    callback = ReporterCallback(reporter, run.jobs, watch.hung)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_job, run=run, copies=copies),
            lambda config: _held(resources, run.layout_of(run.jobs[config["job"]]), run.files.everywhere),
        ),
        tune_config=tune_config(jobs, _at_once(run), overseer.stopping),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.folder),
            verbose=0,
            callbacks=[callback, overseer, watch, Forgiveness()],
            failure_config=tune.FailureConfig(max_failures=CRASHES_FORGIVEN),
        ),
    )
    try:
        with on_sigterm(overseer.go):
            tuner.fit()
    finally:
        ray.kill(copies)  # of which Tune keeps a handle: a session's next run would find the object store full
    following = [job.name for job in jobs if job.name not in callback.ended]
    if following and overseer.reason != "budget":
        raise KeyboardInterrupt
    return Ended([f"{run.jobs[name].label}: {failure}" for name, failure in callback.failures.items()], following)


def tune_config(jobs: Sequence[Job], at_once: Callable[[], int], stopping: Callable[[], bool]) -> tune.TuneConfig:
    """How Tune hands out a plan.

    Args:
        jobs: the plan.
        at_once: most jobs that are handed out and have not ended.
        stopping: whether no further job is to be handed out.
    """
    return tune.TuneConfig(
        search_alg=PlanSearcher(jobs, at_once, stopping),
        # left out, Tune has one trial at a time wait for its process: each starts once the one before it has started
        max_concurrent_trials=len(jobs),
        num_samples=len(jobs),
        reuse_actors=True,
    )


def _at_once(run: Run) -> Callable[[], int]:
    trials = run.experiment.resources.trials
    if trials == "auto":
        return Room(run.experiment.resources, run.layouts.trial.workers)
    return lambda: trials


def _held(resources: ResourcesConfig, layout: Layout, anywhere: bool) -> tune.PlacementGroupFactory:
    """What a job holds: a share for each of its workers, on one node if that is possible, or else necessary."""
    share = {"CPU": float(resources.cpus), "GPU": float(resources.gpus)}
    if layout.workers == 1:
        return tune.PlacementGroupFactory([share])
    # the trial's own process waits for its workers, and takes nothing
    return tune.PlacementGroupFactory([{}, *([share] * layout.workers)], strategy="PACK" if anywhere else "STRICT_PACK")


def _hot_copies(storage: str) -> Any:
    actor: Any = HotCopies
    return actor.remote(storage, int(ray.cluster_resources().get("object_store_memory", 2**30) * _HOT_SHARE))
