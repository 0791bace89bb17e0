"""Live progress as plain lines, few enough for a log."""

from __future__ import annotations

from typing import IO

from raydisc.report import formats
from raydisc.report.live.board import Board, News

EVERY_S = 10.0
"""The seconds between two lines of a trial or a ranking; a new stage is always printed."""

SHOWN = 3  # candidates in a line


class Lines:
    """A view that prints a line for news and, from time to time, for progress."""

    def __init__(self, board: Board, file: IO[str]) -> None:
        """Print the news of this board to this file."""
        self._board, self._file = board, file
        self._told: dict[str, float] = {}
        self._waiting: set[str] = set()

    def begin(self) -> None:
        """Print the name of the run and its number of trials."""
        self._print(f"run {self._board.title}: {self._board.total} trials")

    def progress(self, trial_id: str, new_stage: bool) -> None:
        """Print a line at a new stage and from time to time."""
        if self._due(trial_id, new_stage):
            running = self._board.running[trial_id]
            share = f" {running.step}/{running.steps} ({running.step / running.steps:.0%})" if running.steps else ""
            self._print(f"{running.label}: {running.stage}{share}")
        self._tell_rankings()

    def ranking(self, supernet: str) -> None:
        """Print the best candidates from time to time; the last ranking is never lost."""
        self._waiting.add(supernet)
        self._tell_rankings()

    def say(self, kind: News, text: str) -> None:
        """Print news on a line of its own."""
        counts = f" ({self._board.counts()})" if kind != "notice" else ""
        self._print(f"{kind}: {text}{counts}")

    def end(self) -> None:
        """Print the rankings that are still to be printed, and the numbers of trials by state."""
        self._tell_rankings(at_once=True)
        self._print(self._board.counts())

    def _tell_rankings(self, at_once: bool = False) -> None:
        for supernet in sorted(self._waiting):
            if self._due(f"ranking {supernet}", at_once):
                self._waiting.remove(supernet)
                self._print(self._ranking(supernet))

    def _ranking(self, supernet: str) -> str:
        placed = [entry for entry in self._board.rankings[supernet] if entry.place is not None]
        best = ", ".join(
            f"{entry.place}. {formats.scale(entry.scale)}, tradeoff {entry.tradeoff:.3f} "
            f"(metric {formats.with_error(entry.metric, entry.se)})"
            for entry in placed[:SHOWN]
        )
        rest = f", {len(placed) - SHOWN} more" if len(placed) > SHOWN else ""
        named = f" of supernet {supernet[:12]}" if supernet else ""
        return f"candidates{named} by m + {self._board.lam:g}(1 - s): {best}{rest}"

    def _due(self, name: str, at_once: bool) -> bool:
        now = self._board.clock()
        if not at_once and now - self._told.get(name, float("-inf")) < EVERY_S:
            return False
        self._told[name] = now
        return True

    def _print(self, text: str) -> None:
        print(f"[{self._board.elapsed()}] {text}", file=self._file, flush=True)
