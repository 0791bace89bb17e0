"""The jobs of a run as one experiment of Ray Tune.

Import this inside a ``ray_session``: Ray reads its settings when it is imported.
"""

import shutil
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from raydisc.config.resources import ResourcesConfig
from raydisc.parallel.mesh import Layout
from raydisc.report.live.reporter import LiveReporter
from raydisc.runs.budget import Spending
from raydisc.runs.jobs import Ended
from raydisc.runs.proposals import Planner
from raydisc.runs.termination import on_sigterm
from raydisc.runtime.callbacks.progress import ReporterCallback
from raydisc.runtime.callbacks.retries import CRASHES_FORGIVEN, Forgiveness
from raydisc.runtime.callbacks.stalls import StallWatch
from raydisc.runtime.callbacks.stopping import Overseer
from raydisc.runtime.cluster import Room
from raydisc.runtime.hot_store import HotCopies
from raydisc.runtime.job_searcher import JobSearcher
from raydisc.runtime.ray_internals import keep_cloud_keys_off_command_lines
from raydisc.runtime.trainable import Run, run_job
from raydisc.runtime.trial_scheduler import JobScheduler

_HOT_SHARE = 0.6
"""The share of the object store for artifacts; Ray and Tune need some of it too."""


_AT_ONCE = 10**6
"""More jobs than ever run at once: the searcher limits them, and Tune is to start as many processes as it hands out."""


def tune_jobs(
    run: Run,
    planner: Planner,
    reporter: LiveReporter,
    spending: Spending,
    note: Callable[[], None],
    trial_scheduler: TrialScheduler | None = None,
) -> Ended:
    """Run the jobs as trials of one Tune experiment, as many at once as resources allow.

    What Tune keeps of an earlier try is thrown away: finished stages are found by their keys.

    Args:
        run: What every job is given.
        planner: The source of jobs.
        reporter: Shows progress.
        spending: What the run has spent, compared with the budget while jobs run.
        note: Called when a job has ended.
        trial_scheduler: Ends trials early, by their evaluations; see ``JobScheduler``.

    Raises:
        KeyboardInterrupt: The experiment was interrupted before every job had ended.
    """
    resources = run.experiment.resources
    copies = _hot_copies(run.storage)
    overseer = Overseer(spending, lambda job: run.layout_of(job).workers, copies, note)
    if overseer.stopping():
        return Ended([], planner.unfinished(set()))
    shutil.rmtree(run.folder / "tune", ignore_errors=True)
    keep_cloud_keys_off_command_lines()
    watch = StallWatch(resources.stall_minutes)
    callback = ReporterCallback(reporter, watch.hung)
    searcher = JobSearcher(planner, _at_once(run), overseer.stopping)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_job, run=run, copies=copies),
            lambda config: _held(resources, run.layout_of(config["job"]), run.files.everywhere),
        ),
        tune_config=tune_config(searcher, None if trial_scheduler is None else JobScheduler(trial_scheduler, copies)),
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
    if searcher.error is not None:
        raise searcher.error
    if not planner.is_done(callback.ended) and overseer.reason != "budget":
        raise KeyboardInterrupt
    return Ended(callback.failures, planner.unfinished(callback.ended))


def tune_config(searcher: JobSearcher, scheduler: TrialScheduler | None = None) -> tune.TuneConfig:
    """Return how Tune hands out jobs.

    Args:
        searcher: Suggests the jobs.
        scheduler: Hears of their reports; None for Tune's own, which runs each to its end.
    """
    return tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        # left out, Tune has one trial at a time wait for its process: each starts once the one before it has started
        max_concurrent_trials=_AT_ONCE,
        num_samples=-1,
        reuse_actors=True,
    )


def _at_once(run: Run) -> Callable[[], int]:
    trials = run.experiment.resources.trials
    if trials == "auto":
        return Room(run.experiment.resources, run.layouts.trial.workers)
    return lambda: trials


def _held(resources: ResourcesConfig, layout: Layout, anywhere: bool) -> tune.PlacementGroupFactory:
    """Return what a job holds: a share for each of its workers, on one node where that is possible or necessary."""
    share = {"CPU": float(resources.cpus), "GPU": float(resources.gpus)}
    if layout.workers == 1:
        return tune.PlacementGroupFactory([share])
    # the trial's own process waits for its workers, and takes nothing
    return tune.PlacementGroupFactory([{}, *([share] * layout.workers)], strategy="PACK" if anywhere else "STRICT_PACK")


def _hot_copies(storage: str) -> Any:
    actor: Any = HotCopies
    return actor.remote(storage, int(ray.cluster_resources().get("object_store_memory", 2**30) * _HOT_SHARE))
