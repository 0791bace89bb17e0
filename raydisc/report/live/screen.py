"""Live progress on a terminal: a bar for each running trial and the ranking of the candidates."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raydisc.report import formats
from raydisc.report.live.board import Board, Entry, News, Stage, clock_time

MARKS: dict[News, tuple[str, str]] = {
    "finished": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "notice": ("!", "yellow"),
}

HEADINGS = "place", "scale", "validation", "tradeoff", "params"
BAR_WIDTHS = 6, 24  # smallest and largest


class Screen:
    """A view that draws a board on a terminal a few times a second."""

    def __init__(self, board: Board, console: Console) -> None:
        """Draw this board on this console."""
        self._board, self._console = board, console
        self._live: Live | None = None

    def begin(self) -> None:
        """Start drawing."""
        self._live = Live(
            console=self._console,
            get_renderable=self.draw,
            transient=True,
            # A stray print would tear the picture where both streams are the terminal; a pipe must stay as it is.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def progress(self, trial_id: str, new_stage: bool) -> None:
        """Do nothing: the next refresh draws the change."""

    def ranking(self, supernet: str) -> None:
        """Do nothing: the next refresh draws the change."""

    def say(self, kind: News, text: str) -> None:
        """Print a line above the picture, where it stays."""
        mark, style = MARKS[kind]
        self._console.print(Text.assemble((mark, style), " ", text))

    def end(self) -> None:
        """Remove the picture, and leave one line and the last ranking."""
        if self._live is not None:
            self._live.stop()
        self._console.print(Group(self._heading(), *self._ranking(None)))

    def draw(self) -> RenderableType:
        """Return the picture as far as it fits the terminal."""
        ranked = next(reversed(self._board.rankings.values()), [])
        height = self._console.size.height
        shown = len(ranked) if len(ranked) <= max(height - 10, 5) else max(height // 2, 5)
        room = height - shown - (7 if shown == len(ranked) else 8)
        return Group(self._heading(), self._running(max(room, 3)), *self._ranking(shown))

    def _heading(self) -> Text:
        return Text.assemble((self._board.title, "bold"), f"  {self._board.counts()}  {self._board.elapsed()}")

    def _running(self, room: int) -> RenderableType:
        trials = list(self._board.running.values())
        now = self._board.clock()
        stages = [trial.stage for trial in trials[:room]]
        steps = [_steps(trial, now) for trial in trials[:room]]
        left = [_left(trial, now) for trial in trials[:room]]
        # On a narrow terminal the bar gives way, then the label, but not the numbers.
        numbers = sum(max(map(len, column), default=0) for column in (stages, steps, left)) + 5
        labels = max((len(trial.label) for trial in trials[:room]), default=0)
        bar = min(BAR_WIDTHS[1], max(BAR_WIDTHS[0], self._console.width - numbers - labels))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(self._console.width - numbers - bar, 8))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(width=bar)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, style="dim")
        for trial, *cells in zip(trials[:room], stages, steps, left, strict=True):
            stage, done, rest = map(Text, cells)
            table.add_row(Text(trial.label), stage, _bar(trial, now), done, rest)
        if len(trials) > room:
            return Group(table, Text(f"… and {len(trials) - room} more", style="dim"))
        return table

    def _ranking(self, most: int | None) -> list[RenderableType]:
        """Return the last ranking: all of it, or at most ``most`` of the best candidates."""
        if not self._board.rankings:
            return []
        supernet, every = next(reversed(self._board.rankings.items()))
        entries = every[:most]
        named = f", supernet {supernet[:12]}" if supernet else ""
        title = Text(f"candidates by m + {self._board.lam:g}(1 - s){named}", style="bold")
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for heading in HEADINGS:
            table.add_column(heading, justify="right")
        for entry in entries:
            table.add_row(*map(Text, self._cells(entry)), style={1: "bold green", None: "dim"}.get(entry.place))
        if len(every) > len(entries):
            return [title, table, Text(f"… and {len(every) - len(entries)} more", style="dim")]
        return [title, table]

    def _cells(self, entry: Entry) -> list[str]:
        own = entry.place is None
        return [
            "student" if own else str(entry.place),
            formats.scale(entry.scale),
            formats.with_error(entry.metric, entry.se),
            formats.DASH if own else formats.decimal(entry.tradeoff),
            formats.parameters(entry.parameters),
        ]


def _bar(trial: Stage, now: float) -> ProgressBar:
    """Return a progress bar, which pulses for a stage without steps."""
    return ProgressBar(total=trial.steps or None, completed=trial.step, pulse=not trial.steps, animation_time=now)


def _steps(trial: Stage, now: float) -> str:
    return f"{trial.step}/{trial.steps}" if trial.steps else clock_time(now - trial.since)


def _left(trial: Stage, now: float) -> str:
    left = trial.seconds_left(now)
    return "" if left is None else f"{clock_time(left)} left"
