"""How long the jobs of a run take with any number of workers, by calculation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.models.precision import Arithmetic
from raydisc.report.ledger import Ledger
from raydisc.runs.jobs import Job, Jobs
from raydisc.schedules.foresight import knowing
from raydisc.schedules.trials import expand, preparation
from raydisc.stages.problem import inspect, student_scales
from raydisc.stages.store import ArtifactStore

SLACK = 0.05  # a schedule this close to a bound is limited by it


@dataclass(frozen=True)
class Makespan:
    """The duration of a plan.

    Attributes:
        workers: The number of jobs at the same time.
        seconds: The seconds from the first job's start to the last one's end.
        work: The seconds of all jobs together.
        critical: The seconds of the longest chain of jobs.
        chain: The names of that chain's jobs in order.
    """

    workers: int
    seconds: float
    work: float
    critical: float
    chain: tuple[str, ...]

    @property
    def limit(self) -> str:
        """The reason why it is not shorter."""
        if self.seconds <= (1 + SLACK) * self.work / self.workers:
            return "workers: all are busy"
        if self.seconds <= (1 + SLACK) * self.critical:
            return "chain: " + " → ".join(self.chain)
        return "jobs too few or too unequal to fill the workers"


def simulate(jobs: Sequence[Job], seconds: Mapping[str, float], workers: int) -> Makespan:
    """Hand jobs out as a run does: the first of the plan that waits for nothing, whenever a worker is free.

    Args:
        jobs: The plan.
        seconds: The seconds of each job by name; a job that is not listed takes no time.
        workers: The number of jobs at the same time.
    """
    waiting, running, ended, now = list(jobs), dict[str, float](), set[str](), 0.0
    while waiting or running:
        ready = [job for job in waiting if ended.issuperset(job.needs)]
        for job in ready[: workers - len(running)]:
            waiting.remove(job)
            running[job.name] = now + seconds.get(job.name, 0.0)
        now = min(running.values())
        for name in [name for name, end in running.items() if end <= now]:
            del running[name]
            ended.add(name)
    critical, chain = _critical(jobs, seconds)
    return Makespan(workers, now, sum(seconds.get(job.name, 0.0) for job in jobs), critical, chain)


def _critical(jobs: Sequence[Job], seconds: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    """Return the longest chain; a plan names a job before those that need it."""
    longest: dict[str, tuple[float, tuple[str, ...]]] = {}
    for job in _in_order(jobs):
        before = max((longest[name] for name in job.needs), default=(0.0, ()))
        longest[job.name] = (before[0] + seconds.get(job.name, 0.0), (*before[1], job.name))
    return max(longest.values())


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    waiting, found = list(jobs), dict[str, Job]()
    while waiting:
        job = next(job for job in waiting if all(name in found for name in job.needs))
        waiting.remove(job)
        found[job.name] = job
    return list(found.values())


def measured_jobs(experiment: Experiment, storage: Path) -> tuple[list[Job], dict[str, float]]:
    """Return the plan of a finished run as it was at its start, and the seconds of each job by the ledger.

    Raises:
        InputError: The run computed no stage of its own.
    """
    stages = Ledger(storage / "ledger").rows("stages", run=experiment.name, state="finished")
    if not stages:
        raise InputError(f"--run: '{experiment.name}' computed no stage of its own in '{storage}'; name a run that did")
    seconds: dict[str, float] = {}
    for stage in stages:
        seconds[stage["trial"]] = seconds.get(stage["trial"], 0.0) + stage["wall_seconds"]
    arithmetic = Arithmetic(**json.loads(stages[0]["settings"])["arithmetic"])  # in which jobs have their names
    subject = inspect(experiment)
    trials = expand(experiment, student_scales(experiment, subject))
    tokenise = next(preparation(experiment, subject, experiment.teachers[0]))
    data = ArtifactStore(storage).find(tokenise.key(arithmetic))
    if data is None:
        raise InputError(f"--run: the tokenised task of '{experiment.name}' is not in '{storage}' any more")
    jobs = Jobs(experiment, subject, arithmetic, knowing(data))
    jobs.add(trials)
    jobs.close()
    return jobs.planned, seconds
