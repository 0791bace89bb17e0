"""Schedules of one name with different options, and the controls of two rivals: rows of each, and of no other."""

from __future__ import annotations

import io
from typing import Any

import pytest
from ledger_world import World

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.differences import schedules_compared
from raydisc.report.figures import cost_figure
from raydisc.report.rows import Row
from raydisc.report.rules import fits
from raydisc.report.show import show
from raydisc.report.show_tables import show_sheets
from raydisc.report.summary import summarise
from raydisc.report.table import as_text
from raydisc.report.tables import print_comparison

LABELS = (
    ("minidisc", "minidisc"),
    ("minidisc", "minidisc-lam-0.4"),
    ("kd_equal_compute", "kd_equal_compute"),
    ("kd_equal_compute", "kd_equal_compute-lam-0.4"),
    ("kd_equal_compute", "kd_equal_compute-of-autodisc"),
    ("optuna", "optuna-tpe"),
    ("optuna", "optuna-tpe-search-1"),
    ("maxidisc", "maxidisc"),
    ("maxidisc", "maxidisc-assistants-2"),
)


def trial(world: World, schedule: str, label: str | None, validation: float, **fields: Any) -> None:
    """A finished trial of 10 FLOPs, tested on four rows."""
    name = f"{label or schedule}-{validation:g}"
    student = world.stage(name, "distil", [], 10)
    test = world.test(student, [1] * round(4 * validation) + [0] * round(4 - 4 * validation))
    world.trial(name, schedule, student, validation, label=label, test=test, stages=[student], **fields)


@pytest.fixture
def labelled(world: World) -> World:
    """Two trials of each label, of which the second is better by validation and dearer by its own stage."""
    for schedule, label in LABELS:
        for validation in (0.5, 0.75):
            trial(world, schedule, label, validation, path=[validation], lam=0.2)
    return world


def rows_of(world: World) -> list[Row]:
    return comparison(world.ledger, ["r"])


def test_each_label_has_a_choice_and_a_cost_of_its_own(labelled: World) -> None:
    rows = rows_of(labelled)
    assert {(row.schedule, row.label) for row in rows if row.selected} == set(LABELS)
    assert sum(row.selected for row in rows) == len(LABELS)
    assert {row.validation_metric for row in rows if row.selected} == {0.75}
    assert {row.schedule_cost.flops for row in rows if row.schedule_cost} == {20.0}


def test_each_label_has_a_line_and_differences(labelled: World) -> None:
    rows = rows_of(labelled)
    whole = [s for s in summarise(Bootstrap(labelled.ledger), rows) if s.whole]
    assert {(s.schedule, s.label, s.tried) for s in whole} == {(*label, 2) for label in LABELS}
    sides = {(it.above, it.below) for it in schedules_compared(rows)}
    assert {below for above, below in sides if above == "oracle"} == {label for _, label in LABELS}
    assert ("minidisc", "minidisc-lam-0.4") in sides
    assert not {below for above, below in sides if above == below}


def test_the_oracle_path_is_the_best_of_all_that_try_every_path(world: World) -> None:
    trial(world, "maxidisc", "maxidisc", 0.5, path=[0.3])
    trial(world, "maxidisc", "maxidisc-assistants-2", 0.75, path=[0.5, 0.3])
    assert [row.regret for row in rows_of(world)] == [0.25, 0.0]


def test_tables_name_the_label(labelled: World) -> None:
    stream = io.StringIO()
    print_comparison(labelled.ledger, ["r"], stream)
    lines = stream.getvalue().splitlines()
    for _, label in LABELS:
        assert sum(line.startswith(f"{label}, best of 2 ") for line in lines) == 1
    trials = "\n".join(map(as_text, show_sheets(show(labelled.ledger, "r")))).splitlines()
    for _, label in LABELS:
        assert sum(line.startswith(f"{label} ") for line in trials) == 2


def test_marks_of_one_schedule_with_other_options_differ(labelled: World) -> None:
    figure = cost_figure(summarise(Bootstrap(labelled.ledger), rows_of(labelled)), "title")
    handles, names = figure.axes[0].get_legend_handles_labels()
    marks = {
        name: (bars.lines[0].get_color(), bars.lines[0].get_marker()) for name, bars in zip(names, handles, strict=True)
    }
    whole = {name: mark for name, mark in marks.items() if name.endswith("(best of 2)")}
    assert len(whole) == len(set(whole.values())) == len(LABELS)


def test_without_the_usual_options_the_first_is_what_others_are_measured_against(world: World) -> None:
    for label in ("minidisc-lam-0.4", "minidisc-lam-0.6", "kd"):
        trial(world, label.partition("-")[0], label, 0.5)
    rows = rows_of(world)
    assert {it.above for it in schedules_compared(rows)} == {"minidisc-lam-0.4"}
    assert {s.cost_relative_to_reference for s in summarise(Bootstrap(world.ledger), rows)} == {1.0}
    stream = io.StringIO()
    print_comparison(world.ledger, ["r"], stream)
    assert "× minidisc-lam-0.4" in stream.getvalue()


def test_each_rule_for_the_assistant_says_whose_candidates_it_ranks(filled: World) -> None:
    student = filled.stage("other", "distil", ["supernet-s0"], 1)
    filled.trial(
        "other", "minidisc", student, 0.6, label="minidisc-reinvest-False", lam=0.2, supernet="supernet-s0",
        path=[0.3], test=filled.test(student, [1] * 8),
    )  # fmt: skip
    rules = [fit.rule for fit in fits(filled.ledger, rows_of(filled))]
    assert len(set(rules)) == len(rules) == 8
    assert "largest metric, minidisc-reinvest-False" in rules


def test_in_a_ledger_without_labels_the_name_takes_their_place(filled: World) -> None:
    assert all(row.label == row.schedule for row in rows_of(filled))
    assert {trial["label"] for trial in show(filled.ledger, "r")["trials"]} == {row.schedule for row in rows_of(filled)}
