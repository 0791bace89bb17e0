"""A Tune searcher that hands out a run's jobs as soon as the jobs that they wait for have ended."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray.tune.search import Searcher

from raydisc.runs.jobs import Job
from raydisc.runs.proposals import State, TrialResult
from raydisc.runtime.reports import JobEnded, JobStopped, Report, from_result


class Source(Protocol):
    """A source of jobs; see ``raydisc.runs.proposals.Planner``."""

    @property
    def over(self) -> bool:
        """Whether no further jobs will come."""

    def more(self) -> Sequence[Job]:
        """Return the jobs that are planned now."""

    def ended(self, job: Job, result: TrialResult) -> None:
        """Take the result of a job."""


@dataclass
class _Waiting:
    """Jobs that wait for the same jobs: those of them that have not ended, and the places of the waiting ones."""

    waits: set[str]
    places: list[int]


class JobSearcher(Searcher):
    """Suggests each job once, in the order in which jobs are planned as far as dependencies allow.

    A job that needs one that failed is handed out too, with the failure, so that it ends at once and says why. Tune
    asks many times a second; an answer takes no longer with many jobs.

    Args:
        source: The source of jobs, which is asked for more after each end of a trial.
        at_once: Returns the largest number of jobs that are handed out and have not ended, as it is just now.
        stopping: Whether no further job is to be handed out.
    """

    def __init__(self, source: Source, at_once: Callable[[], int], stopping: Callable[[], bool]) -> None:
        """Start with the first jobs waiting."""
        super().__init__()
        self._source, self._at_once, self._stopping = source, at_once, stopping
        self._jobs: list[Job] = []
        self._left = 0
        self._running: dict[str, Job] = {}
        self._ended: dict[str, str | None] = {}
        self._stopped: set[str] = set()
        self._ready: list[int] = []  # a heap
        self._waiting: defaultdict[str, list[_Waiting]] = defaultdict(list)
        self.error: Exception | None = None
        """The error of the source, by which the run ends; Tune would charge it to the trial that has just ended."""
        self._add(source.more())

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to keep: what Tune keeps of a run is never restored, and streams of output have no pickle."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next job and what it inherits; None while all jobs wait; FINISHED at the end."""
        if self._stopping() or self.error is not None or (self._source.over and not self._left):
            return str(Searcher.FINISHED)
        if not self._ready or len(self._running) >= self._at_once():
            return None
        job = self._jobs[heapq.heappop(self._ready)]
        self._left -= 1
        self._running[trial_id] = job
        failures = [self._ended[name] for name in job.needs if self._ended[name]]
        # a test waits for every choice, not for its success: it is lost only where nothing at all came of the run
        lost = failures and (not job.test or len(failures) == len(job.needs))
        # without its rival's result, a control has nothing to stand beside
        stopped = job.is_trial and not self._stopped.isdisjoint(job.needs)
        return {"job": job, "inherited_failure": failures[0] if lost else None, "inherited_stop": stopped}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that a job has ended, and ask for further jobs."""
        job = self._running.pop(trial_id, None)
        if job is None:
            return
        report = from_result(result) if result else None
        found = _result_of(report, error)
        self._ended[job.name] = found.message if found.state == "failed" else None
        if found.state == "stopped early":
            self._stopped.add(job.name)
        for waiting in self._waiting.pop(job.name, ()):
            waiting.waits.remove(job.name)
            if not waiting.waits:
                for place in waiting.places:
                    heapq.heappush(self._ready, place)
        if not isinstance(report, JobStopped):  # a run that stops asks for no more
            try:
                self._source.ended(job, found)
                if job.is_trial:
                    self._add(self._source.more())
            except Exception as error:
                self.error = error

    def _add(self, jobs: Sequence[Job]) -> None:
        alike: dict[frozenset[str], _Waiting] = {}
        for job in jobs:
            place, waits = len(self._jobs), frozenset({*job.needs, *job.after} - self._ended.keys())
            self._jobs.append(job)
            self._left += 1
            if not waits:
                heapq.heappush(self._ready, place)
            elif waits in alike:
                alike[waits].places.append(place)
            else:
                alike[waits] = _Waiting(set(waits), [place])
        for waiting in alike.values():
            for name in waiting.waits:
                self._waiting[name].append(waiting)


def _result_of(report: Report | None, error: bool) -> TrialResult:
    """Return the result of a job from its last report to Tune; None where its process died."""
    end = report if isinstance(report, JobEnded) else JobEnded()
    failure = end.failure or ("its process died" if error else None)
    if failure is not None:
        return TrialResult("failed", message=failure)
    state: State = "stopped early" if end.stopped_early else "finished"
    return TrialResult(state, end.metric, end.message, end.flops, end.curve)
