"""Live progress of a run: bars and a ranking on a terminal, plain lines elsewhere. It knows nothing of Ray."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from rich.console import Console

from raydisc.report.live.board import Board, Stage, View
from raydisc.report.live.lines import Lines
from raydisc.report.live.screen import Screen
from raydisc.tradeoff import DEFAULT_LAM


class LiveReporter:
    """Shows how the trials of a run and the ranking of the candidates stand, on standard error.

    Nothing goes to standard output, which scripts may read.
    """

    def __init__(
        self, plain: bool = False, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Choose how to show it.

        Args:
            plain: Plain lines even on a terminal.
            file: Where to; standard error if left out.
            clock: Gives the time in seconds.
        """
        file = file or sys.stderr
        console = Console(file=file, highlight=False)
        self._board = Board(clock)
        plain = plain or not console.is_terminal or console.is_dumb_terminal
        self._view: View = Lines(self._board, file) if plain else Screen(self._board, console)
        self._showing = False

    def start(self, title: str, total_trials: int, lam: float = DEFAULT_LAM) -> None:
        """Begin.

        Args:
            title: Name of the run.
            total_trials: How many trials there will be.
            lam: λ of the ranking of the candidates.
        """
        self._board.begin(title, total_trials, lam)
        self._view.begin()
        self._showing = True

    def update(self, trial_id: str, label: str, stage: str, step: int, steps: int) -> None:
        """A trial runs this stage and has done `step` of its `steps` (0 where a stage has no steps)."""
        running = self._board.running.get(trial_id)
        new = running is None or (running.stage, running.steps) != (stage, steps) or step < running.step
        if running is None or new:
            running = self._board.running[trial_id] = Stage(label, stage, steps, self._board.clock(), step)
        running.step = step
        self._view.progress(trial_id, new)

    def candidates(self, rows: Sequence[Mapping[str, Any]], supernet: str = "") -> None:
        """The candidates of a supernet have been evaluated.

        Args:
            rows: One for each, the student's own scale (the smallest) included, with `scale` and `metric`, and, as
                far as known, `se`, `parameters`, `student_metric` (of the student through it), `flops` and `state`.
            supernet: Tells one supernet from another.
        """
        if rows:
            self._board.rank(rows, supernet)
            self._view.ranking(supernet)

    def finished(self, trial_id: str, label: str, message: str) -> None:
        """A trial has ended well; the message says with what."""
        self._board.running.pop(trial_id, None)
        self._board.finished += 1
        self._view.say("finished", f"{label}{': ' if message else ''}{message}")

    def failed(self, trial_id: str, label: str, message: str) -> None:
        """A trial has failed; the message says why."""
        self._board.running.pop(trial_id, None)
        self._board.failed += 1
        self._view.say("failed", f"{label}: {message}")

    def stopped(self, trial_id: str, label: str, message: str) -> None:
        """A trial was asked to stop and has; the message says where."""
        self._board.running.pop(trial_id, None)
        self._view.say("notice", f"{label}: {message}")

    def notice(self, text: str) -> None:
        """Something that the user should know; also before the start."""
        self._view.say("notice", text)

    def stop(self) -> None:
        """End; may be called again, and without a start."""
        if self._showing:
            self._showing = False
            self._view.end()
