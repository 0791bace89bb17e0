from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ledger_world import World

from raydisc.errors import InputError
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.figures import candidates_figure, cost_figure, render, sweep_figure
from raydisc.report.html import html_report, write_report
from raydisc.report.show import show
from raydisc.report.summary import summarise

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Checks that tags close in order, and collects links and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_whole_file_that_needs_no_other(filled: World) -> None:
    page = html_report(filled.ledger, "r", "task: {reviews: {}}")
    sources = Balanced(page).sources
    assert len(sources) == 3  # cost, candidates, λ sweep
    for source in sources:
        assert source.startswith("data:image/svg+xml;base64,")
        ElementTree.fromstring(base64.b64decode(source.split(",", 1)[1]))
    assert "url(" not in page
    for part in ("kd_equal_compute", "the choice of TA is within noise"[4:], "task: {reviews: {}}", "largest metric"):
        assert part in page


def test_everything_in_it_is_escaped(world: World) -> None:
    evil = "<script>alert(1)</script>"
    student = world.stage("student", "distil", [], 1)
    world.trial("a", "kd", student, 0.5, task=evil, initialisation=evil)
    world.trial("b", "kd", None, None, state="failed", task=evil, message=evil)
    page = html_report(world.ledger, "r", f"name: {evil}")
    Balanced(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


@pytest.mark.parametrize("state", ["failed", None])
def test_a_run_without_anything_finished_has_a_report(world: World, state: str | None) -> None:
    world.stage("data", "tokenise")
    if state:
        world.trial("t", "kd", None, None, state=state)
    page = html_report(world.ledger, "r")
    Balanced(page)
    assert "No trial has finished." in page


def test_several_seeds_and_student_scales_each_have_their_figures(filled: World) -> None:
    filled.fill(seed=1)
    student = filled.stage("small", "distil", ["supernet-s0"], 1)
    filled.trial(
        "small", "minidisc", student, 0.4, path=[0.3], lam=0.2, student_scale=0.05, supernet="supernet-s0",
        test=filled.test(student, [1, 0]),
    )  # fmt: skip
    page = html_report(filled.ledger, "r")
    assert len(Balanced(page).sources) == 6
    assert re.search(r"Bars of the lines: sd over seeds", page)


def test_the_report_is_written_whole(filled: World, tmp_path: Path) -> None:
    path = write_report(filled.ledger, "r", tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="no run 'other'"):
        write_report(filled.ledger, "other", tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_figures_name_their_axes_and_are_reproducible(filled: World) -> None:
    shown = show(filled.ledger, "r")
    summaries = summarise(Bootstrap(filled.ledger), comparison(filled.ledger, ["r"]))

    def draw() -> list[bytes]:
        return [
            render(candidates_figure(shown["candidates"], {0.3: (0.875, 0.1), 0.5: (0.75, None)}, "title")),
            render(cost_figure(summaries, "title")),
            render(sweep_figure(shown["break_points"], 0.2, "title")),
        ]

    assert draw() == draw()
    figures = [
        candidates_figure(shown["candidates"], {}, "title"),
        cost_figure(summaries, "title"),
        sweep_figure(shown["break_points"], 0.2, "title"),
    ]
    for figure in figures:
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()
    assert render(figures[0], "png").startswith(b"\x89PNG")
    legend = figures[1].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "kd", "kd_equal_compute", "kd_from_supernet", "minidisc", "maxidisc (best of 2)",
        "one path of maxidisc",
    ]  # fmt: skip


def test_the_sweep_shows_what_each_lambda_chooses(filled: World) -> None:
    figure = sweep_figure(show(filled.ledger, "r")["break_points"], 0.2, "title")
    [steps] = figure.axes[0].patches
    values, edges, _ = steps.get_data()  # type: ignore[attr-defined]
    assert list(values) == [0.5, 0.3]
    assert list(edges)[:2] == [0.0, pytest.approx(0.25)]
    assert edges[-1] > 0.25
