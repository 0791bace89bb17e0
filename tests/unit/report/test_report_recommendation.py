"""The page of a recommendation: from the ledger alone, in words and as data."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from ledger_world import World

from raydisc.report.compare import comparison
from raydisc.report.extrapolation import Point, at_twice
from raydisc.report.html import html_report
from raydisc.report.recommendation import Page, pages
from raydisc.report.recommendation_text import sentences
from raydisc.report.show import show
from raydisc.report.show_tables import render_show

ROWS = 400


def hits(share: float, shift: int = 0) -> list[int]:
    """Rows of which a share is right; another shift moves the wrong ones to other rows."""
    wrong = ROWS - round(share * ROWS)
    return [0 if (row - shift) % ROWS < wrong else 1 for row in range(ROWS)]


def rung(world: World, arm: str, number: int, share: float, rungs: int = 3, shift: int = 0, **fields: Any) -> None:
    """A trial of an arm on a rung, which costs ten FLOPs on the first and ten times as many on each further one."""
    key, before = f"{arm}-{number}", [f"{arm}-{number - 1}"] if number > 1 else []
    world.stage(key, "distil", ["data", "importance", "outputs", *before], 10.0**number)
    world.predictions(key, "validation", hits(share, shift))
    row = {"arm": arm, "rung": number, "rungs": rungs, "budget_flops": 2000.0, "label": "recommend", "stages": [key]}
    if number == rungs:
        row["test"] = world.test(key, hits(share - 0.01))
    world.trial(f"recommend-{key}", "recommend", key, share, **{**row, **fields})


def climbed(world: World, kd: float = 0.7, up: float = 0.8, shift: int = 0) -> World:
    """Three arms, of which the one with a higher learning rate comes to the end."""
    world.base()
    for arm, share in (("kd", kd), ("kd_lr_up", up), ("kd_lr_down", 0.5)):
        rung(world, arm, 1, share - 0.1, shift=shift if arm == "kd" else 0)
    for arm, share in (("kd", kd), ("kd_lr_up", up)):
        rung(world, arm, 2, share, shift=shift if arm == "kd" else 0)
    rung(world, "kd_lr_up", 3, up + 0.05)
    return world


def page_of(world: World) -> Page:
    [page] = pages(world.ledger, "r")
    return page


def test_the_page_names_the_student_and_what_every_rung_has_shown(world: World) -> None:
    page = page_of(climbed(world))
    assert (page.trial, page.arm, page.rungs) == ("recommend-kd_lr_up-3", "kd_lr_up", 3)
    assert page.test is not None
    assert page.test.value == pytest.approx(0.84)
    assert [(it.arm, it.is_alike, it.goes_on) for it in page.on(1)] == [
        ("kd", False, True), ("kd_lr_up", True, True), ("kd_lr_down", False, False),
    ]  # fmt: skip
    assert [(it.arm, it.flops) for it in page.on(2)] == [("kd", 125.0), ("kd_lr_up", 125.0)]
    assert page.spent == {
        "teacher_outputs": 10.0, "importance": 5.0, "kd": 110.0, "kd_lr_up": 1110.0, "kd_lr_down": 10.0,
    }  # fmt: skip
    told = "\n".join(sentences(page))
    for part in (
        "Ship the student of recommend-kd_lr_up-3 (KD with three times the learning rate), which lies in ",
        "Its accuracy is 0.850 [0.8", "] on validation, 0.840 [0.8",
        "of an arm: KD 0.600 ±0.02", "10.0 ±1.5 points behind, goes on",
        "KD with a third of the learning rate 0.400", "30.0 ±2.4 points behind, falls out",
        "it was ahead of all others by more than a standard error",
        "With twice the budget, by a line over the logarithm of FLOPs: KD with three times the learning rate 0.8",
        "KD with a third of the learning rate not known, from one point",
    ):  # fmt: skip
        assert part in told


def test_arms_that_cannot_be_told_apart_are_said_to_be_so(world: World) -> None:
    told = "\n".join(sentences(page_of(climbed(world, kd=0.805, up=0.8, shift=200))))
    assert "it could not be told apart from KD, and the prior decided" in told
    assert "points behind, so not to be told from the best, goes on" in told


def test_a_recommendation_is_shown_everywhere(world: World) -> None:
    climbed(world)
    shown = show(world.ledger, "r")
    [page] = json.loads(json.dumps(shown))["recommendations"]
    assert page["arm"] == "kd_lr_up"
    assert page["standings"][0]["metric"]["value"] == pytest.approx(0.6)
    assert page["twice"]["kd_lr_down"] is None
    text = io.StringIO()
    render_show(shown, text, plain=True)
    assert "r: recommended student at scale 0.1 (seed 0)" in text.getvalue()
    assert "recommend: kd_lr_down, rung 1" in text.getvalue()
    assert "Ship the student of recommend-kd_lr_up-3" in text.getvalue()
    assert "Ship the student of recommend-kd_lr_up-3" in html_report(world.ledger, "r")


def test_the_student_of_the_last_rung_alone_is_compared_at_the_cost_of_all(world: World) -> None:
    [row] = comparison(climbed(world, kd=0.99).ledger, ["r"])
    assert (row.trial, row.selected) == ("recommend-kd_lr_up-3", True)
    assert row.schedule_cost is not None
    assert row.schedule_cost.flops == 15 + 110 + 1110 + 10


def test_a_budget_for_one_arm_and_a_run_that_goes_on(world: World) -> None:
    world.base()
    rung(world, "kd", 1, 0.7, rungs=1)
    told = "\n".join(sentences(page_of(world)))
    assert "KD had the whole budget: nothing was compared" in told
    assert "KD not known, from one point" in told


def test_a_run_that_has_not_come_to_its_end_says_so(world: World) -> None:
    world.base()
    rung(world, "kd", 1, 0.7)
    world.trial(
        "recommend-kd_lr_up-1", "recommend", None, None, state="failed", arm="kd_lr_up", rung=1, rungs=3,
        budget_flops=2000.0, label="recommend",
    )  # fmt: skip
    told = sentences(page_of(world))
    assert told[0].startswith("No student is finished yet")
    assert "KD with three times the learning rate has failed or is not finished" in told[1]
    assert "KD 0.700 ±0.023, the best;" in told[1], "nobody knows yet who goes on"
    assert told[2] == "Rung 2 has not been reached."


def test_an_extrapolation_is_as_wide_as_its_points_are_few() -> None:
    draws = np.random.default_rng(0).normal(0.0, 0.01, (3, 2000))
    points = [Point(2.0**n, 0.4 + 0.05 * n, 0.4 + 0.05 * n + draw) for n, draw in enumerate(draws)]
    three, two = at_twice(points, 4.0), at_twice(points[:2], 4.0)
    assert three is not None
    assert two is not None
    assert three.metric == pytest.approx(two.metric) == pytest.approx(0.55)
    assert three.low is not None
    assert two.low is not None
    of_examples = 0.01 * np.sqrt((np.array([-2 / 3, 1 / 3, 4 / 3]) ** 2).sum())
    assert three.metric - three.low == pytest.approx(12.706 * of_examples, rel=0.1), "one degree of freedom"
    assert two.metric - two.low == pytest.approx(1.96 * 0.01 * np.sqrt(4 + 9), rel=0.1)
    bent = [*points[:2], Point(4.0, 0.48, 0.48 + draws[2])]
    assert (at_twice(bent, 4.0) or three).low < three.low
    assert at_twice(points[:1], 4.0) is None
    capped = at_twice([Point(1.0, 0.8, None), Point(2.0, 0.95, None)], 2.0)
    assert capped is not None
    assert (capped.metric, capped.low) == (1.0, None)
    beyond = at_twice([Point(1.0, 0.5, draws[0]), Point(2.0, 0.9, draws[0])], 2.0)
    assert beyond is not None
    assert (beyond.metric, beyond.low, beyond.high) == (1.0, 0.9, 1.0), (
        "the metric ends at 1, so that the line cannot hold"
    )
