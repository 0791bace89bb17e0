"""A Tune searcher that hands out a plan's jobs as soon as what they wait for has ended."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from raydisc.runs.jobs import Job


@dataclass
class _Waiting:
    """Jobs that need the same: what of it has not ended, and their places in the plan."""

    needs: set[str]
    places: list[int]


class PlanSearcher(Searcher):
    """Suggests each job once, in the plan's order as far as dependencies allow.

    A job that waits for one that failed is handed out too, with the failure, so that it ends at once and says why.
    Tune asks many times a second, so that asking takes no longer with a long plan.

    Args:
        jobs: the plan.
        at_once: most jobs that are handed out and have not ended, as it is just now.
        stopping: whether no further job is to be handed out.
    """

    def __init__(self, jobs: Sequence[Job], at_once: Callable[[], int], stopping: Callable[[], bool]) -> None:
        """Start with every job waiting."""
        super().__init__()
        self._jobs, self._left = list(jobs), len(jobs)
        self._at_once, self._stopping = at_once, stopping
        self._running: dict[str, str] = {}
        self._ended: dict[str, str | None] = {}
        alike: dict[tuple[str, ...], _Waiting] = {}
        for place, job in enumerate(self._jobs):
            if job.needs not in alike:
                alike[job.needs] = _Waiting(set(job.needs), [])
            alike[job.needs].places.append(place)
        self._ready = alike.pop(()).places if () in alike else []  # a heap, as it is sorted
        self._waiting: defaultdict[str, list[_Waiting]] = defaultdict(list)
        for waiting in alike.values():
            for name in waiting.needs:
                self._waiting[name].append(waiting)

    def suggest(self, trial_id: str) -> Any:
        """The next job's name and the failure it inherits, if any; None while all wait; FINISHED at the end."""
        if not self._left or self._stopping():
            return str(Searcher.FINISHED)
        if not self._ready or len(self._running) >= self._at_once():
            return None
        job = self._jobs[heapq.heappop(self._ready)]
        self._left -= 1
        self._running[trial_id] = job.name
        failures = [self._ended[name] for name in job.needs if self._ended[name]]
        # a test waits for every choice, not for its success: it is lost only where nothing at all came of the run
        lost = failures and (not job.test or len(failures) == len(job.needs))
        return {"job": job.name, "inherited_failure": failures[0] if lost else None}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that a job has ended."""
        name = self._running.pop(trial_id, None)
        if name is None:
            return
        self._ended[name] = (result or {}).get("failure") or ("its process died" if error else None)
        for waiting in self._waiting.pop(name, ()):
            waiting.needs.remove(name)
            if not waiting.needs:
                for place in waiting.places:
                    heapq.heappush(self._ready, place)
