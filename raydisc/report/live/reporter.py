"""Live progress of a run: bars and a ranking on a terminal, plain lines elsewhere. It knows nothing of Ray."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import IO

from rich.console import Console

from raydisc.report.live.board import Board, Stage, View
from raydisc.report.live.lines import Lines
from raydisc.report.live.screen import Screen
from raydisc.tradeoff import DEFAULT_LAM
from raydisc.training.progress import ScoredCandidate


class LiveReporter:
    """The progress of a run's trials and the ranking of its candidates, on standard error.

    Nothing goes to standard output, which scripts may read.
    """

    def __init__(
        self, plain: bool = False, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Choose between a screen and plain lines.

        Args:
            plain: Whether to print plain lines even on a terminal.
            file: The stream to print to; standard error if left out.
            clock: Returns the time in seconds.
        """
        file = file or sys.stderr
        console = Console(file=file, highlight=False)
        self._board = Board(clock)
        plain = plain or not console.is_terminal or console.is_dumb_terminal
        self._view: View = Lines(self._board, file) if plain else Screen(self._board, console)
        self._showing = False

    def start(self, title: str, total_trials: int, lam: float = DEFAULT_LAM) -> None:
        """Start to show a run.

        Args:
            title: Name of the run.
            total_trials: The number of trials there will be.
            lam: λ of the ranking of the candidates.
        """
        self._board.begin(title, total_trials, lam)
        self._view.begin()
        self._showing = True

    def expect(self, total_trials: int) -> None:
        """Take the number of trials that there will be, which may grow while a run goes on."""
        self._board.total = total_trials

    def update(self, trial_id: str, label: str, stage: str, step: int, steps: int) -> None:
        """Show that a trial has done ``step`` of the ``steps`` of a stage (0 for a stage without steps)."""
        running = self._board.running.get(trial_id)
        new = running is None or (running.stage, running.steps) != (stage, steps) or step < running.step
        if running is None or new:
            running = self._board.running[trial_id] = Stage(label, stage, steps, self._board.clock(), step)
        running.step = step
        self._view.progress(trial_id, new)

    def candidates(self, candidates: Sequence[ScoredCandidate], supernet: str = "") -> None:
        """Rank the candidates of a supernet after an evaluation.

        Args:
            candidates: The candidates, the student's own scale (the smallest) included; empty for one model.
            supernet: The identifier of the supernet.
        """
        if candidates:
            self._board.rank(candidates, supernet)
            self._view.ranking(supernet)

    def finished(self, trial_id: str, label: str, message: str) -> None:
        """Show that a trial has finished; the message says with which result."""
        self._board.running.pop(trial_id, None)
        self._board.finished += 1
        self._view.say("finished", f"{label}{': ' if message else ''}{message}")

    def failed(self, trial_id: str, label: str, message: str) -> None:
        """Show that a trial has failed; the message says why."""
        self._board.running.pop(trial_id, None)
        self._board.failed += 1
        self._view.say("failed", f"{label}: {message}")

    def stopped(self, trial_id: str, label: str, message: str) -> None:
        """Show that a trial has stopped as it was asked to; the message says where."""
        self._board.running.pop(trial_id, None)
        self._view.say("notice", f"{label}: {message}")

    def notice(self, text: str) -> None:
        """Show a notice for the user, which is possible before the start too."""
        self._view.say("notice", text)

    def stop(self) -> None:
        """Finish; this may be called repeatedly, and without a start."""
        if self._showing:
            self._showing = False
            self._view.end()
