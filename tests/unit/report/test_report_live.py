from __future__ import annotations

import io
import math
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from raydisc.report.live.board import Board, Stage, clock_time
from raydisc.report.live.reporter import LiveReporter
from raydisc.report.live.screen import Screen
from raydisc.training.progress import ScoredCandidate


def scored(scale: float, metric: float) -> ScoredCandidate:
    return ScoredCandidate(scale, scale, 1_500_000, 1.0, metric, 0.01)


CANDIDATES = [scored(0.9, 0.95), scored(0.5, 0.94), scored(0.3, 0.93), scored(0.1, 0.99)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(clock: Clock, stream: io.StringIO) -> LiveReporter:
    return LiveReporter(file=stream, clock=clock)


@pytest.fixture
def picture(clock: Clock) -> Callable[..., str]:
    """Draws a reporter's board as a terminal of some width would show it."""

    def draw(reporter: LiveReporter, width: int = 100, height: int = 40) -> str:
        console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, record=True)
        console.print(Screen(reporter._board, console).draw())
        return console.export_text()

    return draw


def test_a_pipe_gets_one_line_per_trial_in_ten_seconds_besides_new_stages(
    plain: LiveReporter, clock: Clock, stream: io.StringIO
) -> None:
    plain.start("quick", 3)
    for step in range(100):
        clock.now = step / 4
        plain.update("a", "kd", "distil", step, 100)
    plain.update("a", "kd", "evaluate", 0, 0)
    plain.update("b", "takd", "distil", 0, 10)
    plain.stop()
    assert stream.getvalue().splitlines() == [
        "[0:00] run quick: 3 trials",
        "[0:00] kd: distil 0/100 (0%)",
        "[0:10] kd: distil 40/100 (40%)",
        "[0:20] kd: distil 80/100 (80%)",
        "[0:24] kd: evaluate",
        "[0:24] takd: distil 0/10 (0%)",
        "[0:24] 0 of 3 trials finished, 2 running",
    ]


def test_ends_failures_and_notices_have_a_line_each(plain: LiveReporter, stream: io.StringIO) -> None:
    plain.notice("before [the] start")
    plain.start("quick", 3)
    plain.update("a", "kd", "distil", 0, 10)
    plain.finished("a", "kd", "validation 0.9")
    plain.finished("b", "takd", "")
    plain.failed("c", "maxidisc", "the loss is not finite at step 3 of distil")
    plain.stop()
    plain.stop()
    assert stream.getvalue().splitlines() == [
        "[0:00] notice: before [the] start",
        "[0:00] run quick: 3 trials",
        "[0:00] kd: distil 0/10 (0%)",
        "[0:00] finished: kd: validation 0.9 (1 of 3 trials finished, 0 running)",
        "[0:00] finished: takd (2 of 3 trials finished, 0 running)",
        "[0:00] failed: maxidisc: the loss is not finite at step 3 of distil "
        "(2 of 3 trials finished, 0 running, 1 failed)",
        "[0:00] 2 of 3 trials finished, 0 running, 1 failed",
    ]


def test_a_ranking_is_told_from_time_to_time_and_the_last_one_always(
    plain: LiveReporter, clock: Clock, stream: io.StringIO
) -> None:
    plain.start("quick", 1)
    for now, best in ((0.0, 0.91), (1.0, 0.92), (2.0, 0.93)):
        clock.now = now
        plain.candidates([*CANDIDATES[:2], scored(0.3, best), CANDIDATES[3]], "1234567890abcdef")
    plain.stop()
    rankings = [line for line in stream.getvalue().splitlines() if "candidates" in line]
    assert len(rankings) == 2
    assert rankings[-1] == (
        "[0:02] candidates of supernet 1234567890ab by m + 0.2(1 - s): 1. 0.3, tradeoff 1.070 (metric 0.930 ±0.010), "
        "2. 0.5, tradeoff 1.040 (metric 0.940 ±0.010), 3. 0.9, tradeoff 0.970 (metric 0.950 ±0.010)"
    )


def test_the_students_own_scale_takes_no_place(plain: LiveReporter) -> None:
    plain.start("quick", 1, lam=0.0)
    plain.candidates(CANDIDATES)
    assert [(e.place, e.scale) for e in plain._board.rankings[""]] == [(1, 0.9), (2, 0.5), (3, 0.3), (None, 0.1)]


def test_lambda_orders_the_ranking(plain: LiveReporter) -> None:
    plain.start("quick", 1, lam=0.2)
    plain.candidates(CANDIDATES)
    assert [e.scale for e in plain._board.rankings[""]] == [0.3, 0.5, 0.9, 0.1]
    plain.candidates([])
    assert len(plain._board.rankings) == 1


def test_a_metric_that_is_not_a_number_is_last(plain: LiveReporter) -> None:
    plain.start("quick", 1)
    plain.candidates([scored(0.9, math.nan), scored(0.5, math.nan), *CANDIDATES[2:]])
    assert [e.scale for e in plain._board.rankings[""]] == [0.3, 0.5, 0.9, 0.1]


def test_a_terminal_shows_bars_and_the_ranking(plain: LiveReporter, clock: Clock, picture: Callable[..., str]) -> None:
    plain.start("quick", 3)
    plain.update("a", "maxidisc [0.3]", "distil", 0, 400)
    clock.now = 10.0
    plain.update("a", "maxidisc [0.3]", "distil", 100, 400)
    plain.update("b", "kd", "tokenise", 0, 0)
    plain.candidates(CANDIDATES, "1234567890abcdef")
    text = picture(plain)
    assert "quick  0 of 3 trials finished, 2 running  0:10" in text
    assert re.search(r"maxidisc \[0\.3\] +distil +[━╺╸]+ +100/400 0:30 left", text)
    assert re.search(r"kd +tokenise +━* +0:00", text)
    assert "candidates by m + 0.2(1 - s), supernet 1234567890ab" in text
    assert re.search(r"1 +0\.3 +0\.930 ±0\.010 +1\.070 +1\.50 M", text)
    assert re.search(r"student +0\.1 +0\.990 ±0\.010 +–", text)


def test_a_narrow_terminal_keeps_the_numbers(plain: LiveReporter, clock: Clock, picture: Callable[..., str]) -> None:
    plain.start("quick", 3)
    plain.update("a", "maxidisc-via-0.5-via-0.3-to-0.1-seed-0", "once_for_all", 0, 400)
    clock.now = 10.0
    plain.update("a", "maxidisc-via-0.5-via-0.3-to-0.1-seed-0", "once_for_all", 100, 400)
    text = picture(plain, width=60)
    assert re.search(r"maxidisc-via\S*… +once_for_all +[━╺╸]+ +100/400 0:30 left", text)
    assert max(map(len, text.splitlines())) <= 60


def test_a_low_terminal_shows_some_of_many_trials(plain: LiveReporter, picture: Callable[..., str]) -> None:
    plain.start("quick", 64)
    for number in range(64):
        plain.update(str(number), f"trial {number}", "distil", 0, 10)
    text = picture(plain, height=20)
    assert "… and 51 more" in text
    assert len(text.splitlines()) < 20


def test_a_low_terminal_shows_the_best_of_many_candidates(plain: LiveReporter, picture: Callable[..., str]) -> None:
    """A thousand lines would take longer to draw than there is between two pictures."""
    plain.start("quick", 64)
    plain.update("a", "kd", "distil", 0, 10)
    plain.candidates([scored((number + 1) / 1001, 0.9) for number in range(1000)])
    text = picture(plain, height=24)
    assert "… and 988 more" in text
    assert re.search(r"\b12 +\S+ +0\.900", text)
    assert "kd" in text
    assert len(text.splitlines()) < 24


def test_a_session_on_a_terminal_leaves_its_news_and_the_last_ranking(
    clock: Clock, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "raydisc.report.live.reporter.Console", lambda **o: Console(force_terminal=True, width=100, **o)
    )
    monkeypatch.setenv("TERM", "xterm")
    reporter = LiveReporter(file=stream, clock=clock)
    reporter.notice("sorted")
    reporter.start("quick", 2)
    reporter.update("a", "kd [x]", "distil", 1, 2)
    reporter.candidates(CANDIDATES)
    reporter.finished("a", "kd [x]", "validation 0.9")
    reporter.failed("b", "takd", "no")
    reporter.stop()
    reporter.stop()
    left = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    for part in ("! sorted", "✓ kd [x]: validation 0.9", "✗ takd: no", "1 of 2 trials finished, 0 running, 1 failed"):
        assert part in left
    assert re.search(r"student +0\.1 +0\.990 ±0\.010 +– +1\.50 M$", left.rstrip())


def test_plain_is_plain_on_a_terminal_too(clock: Clock, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "raydisc.report.live.reporter.Console", lambda **o: Console(force_terminal=True, width=100, **o)
    )
    monkeypatch.setenv("TERM", "xterm")
    reporter = LiveReporter(plain=True, file=stream, clock=clock)
    reporter.start("quick", 1)
    reporter.stop()
    assert "\x1b" not in stream.getvalue()


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = LiveReporter()
    reporter.start("quick", 1)
    reporter.update("a", "kd", "distil", 1, 2)
    reporter.candidates(CANDIDATES)
    reporter.finished("a", "kd", "")
    reporter.stop()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "run quick: 1 trials" in captured.err


def test_stopping_before_the_start_says_nothing(plain: LiveReporter, stream: io.StringIO) -> None:
    plain.stop()
    assert stream.getvalue() == ""


def test_the_pace_is_of_what_was_done_here() -> None:
    resumed = Stage("kd", "distil", 100, since=0.0, first=50, step=60)
    assert resumed.seconds_left(5.0) == 20.0
    assert Stage("kd", "distil", 100, since=0.0, first=50, step=50).seconds_left(5.0) is None
    assert Stage("kd", "tokenise", 0, since=0.0, first=0).seconds_left(5.0) is None


def test_times() -> None:
    assert [clock_time(s) for s in (0, 61.9, 3600, 36_061)] == ["0:00", "1:01", "1:00:00", "10:01:01"]
    assert Board(lambda: 3.0).elapsed() == "0:00"
