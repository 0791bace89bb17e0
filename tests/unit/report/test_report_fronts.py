"""The front of a search: its trials to which no other is preferable in metric and FLOPs."""

from __future__ import annotations

import io

import pytest
from ledger_world import World

from raydisc.report.compare import compare, comparison
from raydisc.report.html import html_report
from raydisc.report.show import show
from raydisc.report.show_tables import render_show
from raydisc.report.tables import comparison_markdown, print_comparison

TRIALS = {"a": (10, 0.5), "b": (20, 0.7), "c": (30, 0.6), "d": (40, 0.9), "e": (50, 0.9), "f": (60, None)}


@pytest.fixture
def searched(world: World) -> World:
    """A search of six trials by two seeds, with the same FLOPs and metrics, and KD."""
    for seed in (0, 1):
        for name, (flops, metric) in TRIALS.items():
            student = world.stage(f"{name}-{seed}", "distil", [], flops)
            test = world.test(student, [1, 1, 0, 0])
            world.trial(student, "optuna", student, metric, label="optuna-nsga2", seed=seed, path=[0.3], test=test)
    world.trial("kd", "kd", world.stage("kd", "distil", [], 5), 0.95)
    return world


def test_on_the_front_no_other_trial_is_as_good_for_as_few_flops(searched: World) -> None:
    rows = compare(searched.ledger, ["r"])
    front = {(row["label"], row["seed"], row["search_flops"]) for row in rows if row["on_front"]}
    assert front == {("kd", 0, 5), *(("optuna-nsga2", seed, flops) for seed in (0, 1) for flops in (10, 20, 40))}


def test_of_equal_trials_the_preferred_one_is_on_the_front(world: World) -> None:
    for name, path in (("a", [0.5]), ("b", [0.3]), ("c", [0.5, 0.3])):
        world.trial(name, "maxidisc", world.stage(name, "distil", [], 1), 0.7, path=path)
    assert [row.path for row in comparison(world.ledger, ["r"]) if row.on_front] == [(0.3,)]


def test_a_trial_whose_cost_is_not_known_is_on_no_front(world: World) -> None:
    world.trial("t", "optuna", world.stage("student", "distil", ["lost"], 3), 0.5, stages=["lost", "student"])
    assert [row.on_front for row in comparison(world.ledger, ["r"])] == [False]


def test_reports_show_the_front_of_a_search(searched: World) -> None:
    text, of_show = io.StringIO(), io.StringIO()
    print_comparison(searched.ledger, ["r"], text)
    table = text.getvalue().partition("r: fronts of metric and FLOPs\n")[2].partition("On the front")[0].splitlines()
    assert [line.split()[-1] for line in table[1:]] == ["d-0", "b-0", "a-0", "d-1", "b-1", "a-1"]
    assert table[1].split()[:8] == ["optuna-nsga2", "0.1", "seed", "0", "0.3", "0.900", "0.500", "±0.010"]
    assert "r: fronts of metric and FLOPs" in html_report(searched.ledger, "r")
    assert "| optuna-nsga2 | 0.1 | seed 1 | 0.3 | 0.500 |" in comparison_markdown(searched.ledger, ["r"])
    shown = show(searched.ledger, "r")
    assert {trial["trial"] for trial in shown["trials"] if trial["on_front"]} == {
        "kd", "a-0", "b-0", "d-0", "a-1", "b-1", "d-1",
    }  # fmt: skip
    render_show(shown, of_show)
    assert of_show.getvalue().count("on the front") == 6


def test_a_run_without_a_search_for_a_front_shows_none(filled: World) -> None:
    text = io.StringIO()
    print_comparison(filled.ledger, ["r"], text)
    render_show(show(filled.ledger, "r"), text)
    filled.trial("rung", "recommend", "kd-s0", 0.5)
    print_comparison(filled.ledger, ["r"], text)
    assert "front" not in text.getvalue()
