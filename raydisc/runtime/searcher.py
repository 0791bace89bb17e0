"""A Tune searcher that hands out a plan's jobs as soon as what they wait for has ended."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from raydisc.runtime.plan import Job


class PlanSearcher(Searcher):
    """Suggests each job once, in the plan's order as far as dependencies allow.

    A job that waits for one that failed is handed out too, with the failure, so that it ends at once and says why.

    Args:
        jobs: the plan.
        at_once: most jobs that run at a time; None leaves it to the resources.
        stopping: whether no further job is to be handed out.
    """

    def __init__(self, jobs: list[Job], at_once: int | None, stopping: Callable[[], bool]) -> None:
        """Start with every job waiting."""
        super().__init__()
        self._waiting = list(jobs)
        self._at_once = at_once
        self._stopping = stopping
        self._running: dict[str, str] = {}
        self._ended: dict[str, str | None] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next job's name and the failure it inherits, if any; None while all wait; FINISHED at the end."""
        if not self._waiting or self._stopping():
            return str(Searcher.FINISHED)
        if self._at_once is not None and len(self._running) >= self._at_once:
            return None
        job = next((job for job in self._waiting if all(name in self._ended for name in job.needs)), None)
        if job is None:
            return None
        self._waiting.remove(job)
        self._running[trial_id] = job.name
        failures = [self._ended[name] for name in job.needs if self._ended[name]]
        # a test waits for every choice, not for its success: it is lost only where nothing at all came of the run
        lost = failures and (not job.test or len(failures) == len(job.needs))
        return {"job": job.name, "inherited_failure": failures[0] if lost else None}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that a job has ended."""
        name = self._running.pop(trial_id, None)
        if name is not None:
            failure = (result or {}).get("failure") or ("its process died" if error else None)
            self._ended[name] = failure
