"""The state of a running run, and the interface of the views that show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from raydisc.tradeoff import DEFAULT_LAM, rank, tradeoff
from raydisc.training.progress import ScoredCandidate

News = Literal["finished", "failed", "notice"]


@dataclass
class Stage:
    """The stage that a trial runs now.

    Attributes:
        label: The trial, for people.
        stage: Kind of the stage.
        steps: The number of its steps; 0 for a stage without steps.
        since: When it began or was resumed here, by the board's clock.
        first: The step at which it began here.
        step: The number of finished steps.
    """

    label: str
    stage: str
    steps: int
    since: float
    first: int
    step: int = 0

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds left at the pace so far; None before the first step."""
        done = self.step - self.first
        return (self.steps - self.step) * (now - self.since) / done if done > 0 and self.steps else None


@dataclass(frozen=True)
class Entry:
    """A candidate in the live ranking; ``place`` is None for the student's own scale.

    Attributes:
        place: 1 for the best tradeoff.
        scale: Nominal scale.
        size: Measured scale, which enters the tradeoff.
        metric: Validation metric.
        reference: The value that the metric is divided by in the tradeoff.
        se: The standard error of the metric.
        parameters: The parameters of its model.
        tradeoff: The tradeoff with the run's λ.
    """

    place: int | None
    scale: float
    size: float
    metric: float
    reference: float
    se: float
    parameters: int
    tradeoff: float


class Board:
    """The state of a run that is shown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty."""
        self.clock = clock
        self.title, self.total, self.lam, self.started = "", 0, DEFAULT_LAM, clock()
        self.finished = self.failed = 0
        self.running: dict[str, Stage] = {}
        self.rankings: dict[str, list[Entry]] = {}

    def begin(self, title: str, total: int, lam: float) -> None:
        """Start the board of a run."""
        self.title, self.total, self.lam, self.started = title, total, lam, self.clock()

    def rank(self, candidates: Sequence[ScoredCandidate], supernet: str) -> None:
        """Rank a supernet's candidates; the smallest is the student's own scale and takes no place."""
        own = min(candidate.scale for candidate in candidates)
        entries = [self._entry(candidate) for candidate in candidates]
        ranked = rank([entry for entry in entries if entry.scale > own], self.lam)
        placed = [replace(entry, place=n) for n, entry in enumerate(ranked, start=1)]
        self.rankings.pop(supernet, None)  # the one that changed last stands last
        self.rankings[supernet] = [*placed, *(entry for entry in entries if entry.scale == own)]

    def _entry(self, found: ScoredCandidate) -> Entry:
        value = tradeoff(found.metric, found.size, self.lam, found.reference)
        return Entry(None, found.scale, found.size, found.metric, found.reference, found.se, found.parameters, value)

    def counts(self) -> str:
        """Return the numbers of finished, running and failed trials in words."""
        parts = [f"{self.finished} of {self.total} trials finished", f"{len(self.running)} running"]
        return ", ".join([*parts, f"{self.failed} failed"] if self.failed else parts)

    def elapsed(self) -> str:
        """Return the time since the start."""
        return clock_time(self.clock() - self.started)


class View(Protocol):
    """A way of showing a board."""

    def begin(self) -> None:
        """Start the view when the run begins."""

    def progress(self, trial_id: str, new_stage: bool) -> None:
        """Show that a trial has made progress or begun a stage."""

    def ranking(self, supernet: str) -> None:
        """Show that the ranking of a supernet's candidates has changed."""

    def say(self, kind: News, text: str) -> None:
        """Print a line that stays."""

    def end(self) -> None:
        """Finish the view when the run has ended."""


def clock_time(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
