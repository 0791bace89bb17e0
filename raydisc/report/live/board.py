"""What is known of a run while it runs, and what a way of showing it must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from raydisc.report.rows import number, reference
from raydisc.tradeoff import DEFAULT_LAM, rank, tradeoff

News = Literal["finished", "failed", "notice"]


@dataclass
class Stage:
    """The stage that a trial runs now.

    Attributes:
        label: The trial, for people.
        stage: Kind of the stage.
        steps: How many steps it has; 0 where it has none.
        since: When it began (or went on) here, by the board's clock.
        first: The step it began at here.
        step: The step it is at.
    """

    label: str
    stage: str
    steps: int
    since: float
    first: int
    step: int = 0

    def seconds_left(self, now: float) -> float | None:
        """How long it will take at the pace so far; None while there is no pace."""
        done = self.step - self.first
        return (self.steps - self.step) * (now - self.since) / done if done > 0 and self.steps else None


@dataclass(frozen=True)
class Entry:
    """A candidate in the live ranking; `place` is None for the student's own scale.

    Attributes:
        place: 1 for the best tradeoff.
        scale: Nominal scale.
        metric: Validation metric.
        reference: What the metric is divided by in the tradeoff.
        tradeoff: By the run's λ.
        row: All that was told of it.
    """

    place: int | None
    scale: float
    metric: float
    reference: float
    tradeoff: float
    row: Mapping[str, Any]


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
        """A run begins."""
        self.title, self.total, self.lam, self.started = title, total, lam, self.clock()

    def rank(self, rows: Sequence[Mapping[str, Any]], supernet: str) -> None:
        """Rank a supernet's candidates; the smallest is the student's own scale and takes no place."""
        own = min(row["scale"] for row in rows)
        entries = [self._entry(row) for row in rows]
        ranked = rank([entry for entry in entries if entry.scale > own], self.lam)
        placed = [replace(entry, place=n) for n, entry in enumerate(ranked, start=1)]
        self.rankings.pop(supernet, None)  # the one that changed last stands last
        self.rankings[supernet] = [*placed, *(entry for entry in entries if entry.scale == own)]

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        metric = number(row["metric"])
        shown = float("nan") if metric is None else metric
        relative_to = reference(row)
        value = tradeoff(shown, row["scale"], self.lam, relative_to)
        return Entry(None, row["scale"], shown, relative_to, value, row)

    def counts(self) -> str:
        """How many trials stand how, in words."""
        parts = [f"{self.finished} of {self.total} trials finished", f"{len(self.running)} running"]
        return ", ".join([*parts, f"{self.failed} failed"] if self.failed else parts)

    def elapsed(self) -> str:
        """Time since the start."""
        return clock_time(self.clock() - self.started)


class View(Protocol):
    """A way of showing a board."""

    def begin(self) -> None:
        """The run begins."""

    def progress(self, trial_id: str, new_stage: bool) -> None:
        """A trial has made progress, or begun a stage."""

    def ranking(self, supernet: str) -> None:
        """The ranking of a supernet's candidates has changed."""

    def say(self, kind: News, text: str) -> None:
        """Tell something that stays."""

    def end(self) -> None:
        """The run has ended."""


def clock_time(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
