from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re

import pytest
from ledger_world import World
from rich.console import Console

from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import compare, comparison
from raydisc.report.costs import Cost
from raydisc.report.intervals import Interval
from raydisc.report.summary import summarise
from raydisc.report.table import Sheet, as_html, as_markdown, as_text, fitting, print_sheets
from raydisc.report.tables import comparison_markdown, comparison_sheets, csv_text, print_comparison
from raydisc.tasks.metrics import METRICS

PERPLEXITY = METRICS.get("token_likelihood").shown_as


def table_text(world: World) -> str:
    stream = io.StringIO()
    print_comparison(world.ledger, ["r"], stream)
    return stream.getvalue()


def cells(text: str, name: str) -> list[str]:
    [found] = [line for line in text.splitlines() if line.startswith(name)]
    return re.split(r"\s{2,}", found.strip())


def test_the_comparison_has_controls_uncertainty_and_both_ratios(filled: World) -> None:
    text = table_text(filled)
    assert cells(text, "schedule") == [
        "schedule", "path", "student", "validation", "test", "FLOP", "device s", "wall s", "× MiniDisc", "× oracle",
    ]  # fmt: skip
    # MiniDisc costs 59, the oracle path .3 33, MaxiDisc 60.
    found = cells(text, "minidisc   ")
    assert found[:3] + found[5:] == ["minidisc", "0.3", "0.1", "59.0", "5.9", "0.6", "1.00", "1.79"]
    for cell, mean, n in zip(found[3:5], (13 / 20, 5 / 8), (20, 8), strict=True):
        shown, error = map(float, cell.split(" ±"))
        assert shown == mean
        assert error == pytest.approx(math.sqrt(mean * (1 - mean) / n), rel=0.05)
    assert cells(text, "maxidisc, best of 2")[-2:] == ["1.02", "1.82"]
    assert cells(text, "  maxidisc           0.3 *")[-2:] == ["0.56", "1.00"]
    assert cells(text, "kd_equal_compute ")[-2:] == ["1.10", "1.97"]
    assert cells(text, "teacher")[3:5] == ["–", "–"]
    assert text.startswith("r: accuracy on toy, seed 0\n")


def test_differences_stand_below_with_intervals_and_a_verdict(filled: World) -> None:
    text = table_text(filled)
    assert cells(text, "oracle − minidisc")[2] == "+0.2500 [-0.1029, +0.6029]"
    assert cells(text, "minidisc − kd_equal_compute")[-1] == "cannot be told apart"
    assert cells(text, "oracle − maxidisc")[-1] == "the same on every resample"
    assert "With a probability of 95% all intervals of this table hold at once, over test examples alone" in text


def test_the_tradeoff_stands_beside_rules_that_need_no_search(filled: World) -> None:
    text = table_text(filled)
    assert cells(text, "tradeoff, λ = 0.2") == ["tradeoff, λ = 0.2", "0.1", "0%", "0.1250", "-1.00"]
    assert cells(text, "smallest") == ["smallest", "0.1", "100%", "0.0000", "+1.00"]
    assert cells(text, "random, expected") == ["random, expected", "0.1", "50%", "0.0625", "0.00"]
    assert "Student 0.1: 2 candidates in 1 run." in text
    assert "p = " not in text


def test_several_teachers_are_named_where_intervals_go_over_them(world: World) -> None:
    world.base()
    for teacher in (0, 1):
        world.fill(teacher=teacher)
    text = table_text(world)
    assert text.startswith("r: accuracy on toy, 2 teachers, seed 0\n")
    assert "r: paired by test example, teacher and seed\n" in text
    assert "hold at once, over test examples and 2 teachers" in text


def test_several_seeds_bring_a_column_for_their_deviation(filled: World) -> None:
    filled.fill(seed=1)
    text = table_text(filled)
    assert cells(text, "schedule")[5] == "sd"
    assert cells(text, "minidisc   ")[5] == "0.000"
    assert text.startswith("r: accuracy on toy, 2 seeds\n")


def test_a_run_without_finished_trials_prints_nothing(world: World) -> None:
    world.trial("t", "kd", None, None, state="failed")
    assert table_text(world) == ""


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (100, 2), (80, 2)])
def test_a_terminal_gets_the_same_cells_even_when_narrow(
    filled: World, monkeypatch: pytest.MonkeyPatch, width: int, tables: int
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("raydisc.report.table.Console", lambda **o: Console(force_terminal=True, width=width, **o))
    print_comparison(filled.ledger, ["r"], stream)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert len(re.findall(r"kd_from_supernet +–", text)) == tables
    for cells_of_a_line in ("0.650 ±0.1", "+0.2500 [-0.1029, +0.6029]", "0.3 *", "× MiniDisc", "device s"):
        assert cells_of_a_line in text
    lines = [line for line in text.splitlines() if line.strip().startswith("minidisc  ")]
    assert "".join(lines).split()[-2:] == ["1.00", "1.79"]


def test_a_sheet_that_fits_is_left_alone() -> None:
    assert fitting(SHEET, 40) == [SHEET]
    assert [part.columns for part in fitting(SHEET, 5)] == [["<left", "right"]]
    three = Sheet("t", ["<key", "a", "b"], [["k", "1", "2"]])
    assert [part.columns for part in fitting(three, 9)] == [["<key", "a"], ["<key", "b"]]
    assert fitting(three, 11) == [three]


def test_csv_has_the_rows_of_the_json(filled: World) -> None:
    rows = compare(filled.ledger, ["r"])
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [list(row) for row in read] == [list(row) for row in rows]
    assert [json.loads(row["path"]) for row in read] == [row["path"] for row in rows]
    assert [float(row["search_flops"]) for row in read] == [row["search_flops"] for row in rows]
    assert read[0]["lam"] == ""
    assert csv_text([]).startswith("run,task,schedule,path,")


def test_markdown_is_a_table(filled: World) -> None:
    lines = comparison_markdown(filled.ledger, ["r"]).splitlines()
    assert lines[0] == "**r: accuracy on toy, seed 0**"
    assert lines[2].startswith("| schedule | path | student |")
    assert lines[3].startswith("| --- | --- | ---: |")
    assert sum(line.startswith("| minidisc |") for line in lines) == 1


SHEET = Sheet("a [title]", ["<left", "right"], [["[0.3]", "1"], ["<b>|", "10"]], notes=["note & so on"])


def test_a_sheet_as_text_is_aligned() -> None:
    assert as_text(SHEET) == "a [title]\nleft   right\n[0.3]      1\n<b>|      10\nnote & so on\n"


def test_a_sheet_escapes_what_the_format_would_take_for_markup() -> None:
    assert '<td class="l">&lt;b&gt;|</td>' in as_html(SHEET)
    assert "note &amp; so on" in as_html(SHEET)
    assert "| <b>\\| | 10 |" in as_markdown(SHEET)


def test_brackets_are_not_markup_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raydisc.report.table.Console", lambda **o: Console(force_terminal=True, width=80, **o))
    stream = io.StringIO()
    print_sheets([SHEET], stream)
    assert "[0.3]" in stream.getvalue()
    assert "a [title]" in stream.getvalue()
    plain = io.StringIO()
    print_sheets([SHEET], plain, plain=True)
    assert plain.getvalue() == as_text(SHEET) + "\n"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (formats.decimal(None), "–"),
        (formats.signed(-0.0001), "0.000"),
        (formats.signed(0.25), "+0.250"),
        (formats.signed(None), "–"),
        (formats.with_error(0.9, None), "0.900"),
        (formats.with_error(None, 0.1), "–"),
        (formats.interval(Interval(0.1, None, None, 1, 1)), "+0.1000"),
        (formats.interval(Interval(0.1, -0.1, 0.3, 1, 1)), "+0.1000 [-0.1000, +0.3000]"),
        (formats.interval(None), "–"),
        (formats.significant(0.0), "0"),
        (formats.significant(0.01234), "0.0123"),
        (formats.significant(1.234), "1.23"),
        (formats.significant(1234.5), "1,234"),
        (formats.significant(None), "–"),
        (formats.seconds(1234.5), "1,234"),
        (formats.seconds(9.87), "9.9"),
        (formats.flops(1.5e12), "1.50 TFLOP"),
        (formats.flops(0.0), "0 FLOP"),
        (formats.flops(None), "–"),
        (formats.parameters(13.3e6), "13.3 M"),
        (formats.parameters(690e3), "0.690 M"),
        (formats.parameters(4321), "4.32 k"),
        (formats.parameters(None), "–"),
        (formats.path([]), "–"),
        (formats.path([0.5, 0.3]), "0.5 → 0.3"),
        (formats.listed(["a", "b", "c"]), "a, b and c"),
        (formats.listed(["a"]), "a"),
        (formats.share(0.625), "62%"),
        (formats.times(None), "–"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_costs_add_up() -> None:
    assert Cost(1, 2, 3, 4) + Cost(1, 1, 1, 1) == Cost(2, 3, 4, 5)


def test_of_a_language_model_the_perplexity_stands_beside_the_likelihood(filled: World) -> None:
    rows = comparison(filled.ledger, ["r"])
    summaries = [dataclasses.replace(s, metric="token_likelihood") for s in summarise(Bootstrap(filled.ledger), rows)]
    sheet = comparison_sheets(Bootstrap(filled.ledger), rows, summaries)[0]
    text = as_text(sheet)
    assert cells(text, "schedule")[4:6] == ["test", "perplexity"]
    assert cells(text, "minidisc   ")[5] == formats.derived(PERPLEXITY, 5 / 8) == "1.600"
    assert (formats.derived(PERPLEXITY, 0.0), formats.derived(PERPLEXITY, None)) == ("∞", formats.DASH)
