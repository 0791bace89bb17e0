"""The tradeoff beside rules that need no search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import World

from raydisc.report.compare import comparison
from raydisc.report.rules import Fit, fits

TRADEOFF, METRIC, SMALLEST, RANDOM = "tradeoff, λ = 0.2", "largest metric", "smallest", "random, expected"


def fits_of(world: World) -> dict[str, Fit]:
    return {fit.rule: fit for fit in fits(world.ledger, comparison(world.ledger, ["r"]))}


def test_every_rule_is_judged_by_the_students_through_all_candidates(filled: World) -> None:
    # Tradeoffs at λ .2: .5 → .9 + .1 = 1, .3 → .85 + .14 = .99; students on test: .5 → 6/8, .3 → 7/8. They disagree.
    counts = {"candidates": 2, "left_out": 0, "replicates": 1, "student_scale": 0.1}
    assert fits_of(filled) == {
        TRADEOFF: Fit(rule=TRADEOFF, best=0.0, regret=1 / 8, tau=-1.0, **counts),
        METRIC: Fit(rule=METRIC, best=0.0, regret=1 / 8, tau=-1.0, **counts),
        SMALLEST: Fit(rule=SMALLEST, best=1.0, regret=0.0, tau=1.0, **counts),
        RANDOM: Fit(rule=RANDOM, best=0.5, regret=1 / 16, tau=0.0, **counts),
    }


def test_choices_are_judged_in_each_replicate_and_orders_by_means(filled: World) -> None:
    filled.fill(seed=0, right={"via-0.5": [1] * 8, "via-0.3": [0] * 8}, teacher=3)
    # Means: .5 → (6 + 8) / 16, .3 → (7 + 0) / 16. Now tradeoff and students agree on average, in one of two runs.
    found = fits_of(filled)
    assert (found[TRADEOFF].best, found[TRADEOFF].regret, found[TRADEOFF].tau) == (0.5, 1 / 16, 1.0)
    assert (found[SMALLEST].best, found[SMALLEST].regret, found[SMALLEST].tau) == (0.5, 1 / 2, -1.0)
    assert found[RANDOM].regret == pytest.approx((1 / 16 + 1 / 2) / 2)
    assert {fit.replicates for fit in found.values()} == {2}


def test_candidates_that_the_search_left_out_are_its_last_and_count_nevertheless(filled: World) -> None:
    student = filled.stage("via-0.8", "distil", [], 1)
    filled.trial(student, "maxidisc", student, 0.6, path=[0.8], test=filled.test(student, [1] * 8))
    found = fits_of(filled)
    assert {(fit.candidates, fit.left_out) for fit in found.values()} == {(3, 1)}
    # The best student is now the one through .8, which is out of the search's reach.
    assert found[TRADEOFF].regret == found[METRIC].regret == 1 - 6 / 8
    assert found[SMALLEST].regret == 1 - 7 / 8
    assert found[TRADEOFF].tau == pytest.approx(-1.0)


def test_no_rule_is_judged_without_both_schedules_or_with_one_candidate(world: World) -> None:
    world.trial("t", "kd", world.stage("student", "distil", [], 1), 0.5)
    assert fits_of(world) == {}
    supernet = world.stage("supernet", "once_for_all", [], 1)
    world.candidate(supernet, 0.3, 0.5)
    for name, schedule in (("a", "maxidisc"), ("b", "minidisc")):
        student = world.stage(name, "distil", [], 1)
        lam, used = (0.2, supernet) if schedule == "minidisc" else (None, None)
        test = world.test(student, [1, 0])
        world.trial(name, schedule, student, 0.5, path=[0.3], lam=lam, supernet=used, test=test)
    assert fits_of(world) == {}


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=4))
def test_the_choice_of_each_rule_by_hand(
    tmp_path_factory: pytest.TempPathFactory, measured: list[tuple[int, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    supernet = world.stage("supernet", "once_for_all", [], 1)
    scales = [round(0.2 + 0.2 * place, 1) for place in range(len(measured))]
    for scale, (metric, right) in zip(scales, measured, strict=True):
        world.candidate(supernet, scale, metric / 8)
        student = world.stage(f"via-{scale}", "distil", [], 1)
        test = world.test(student, [1] * right + [0] * (8 - right))
        world.trial(student, "maxidisc", student, 0.5, path=[scale], test=test)
    student = world.stage("mini", "distil", [], 1)
    test = world.test(student, [1] * 8)
    world.trial("mini", "minidisc", student, 0.5, path=[scales[0]], lam=0.2, supernet=supernet, test=test)
    found = fits_of(world)
    students = {scale: right / 8 for scale, (_, right) in zip(scales, measured, strict=True)}
    metrics = {scale: metric / 8 for scale, (metric, _) in zip(scales, measured, strict=True)}
    chosen = {
        TRADEOFF: max(scales, key=lambda s: (round(metrics[s] + 0.2 * (1 - s), 12), -s)),
        METRIC: max(scales, key=lambda s: (metrics[s], -s)),
        SMALLEST: min(scales),
    }
    for rule, scale in chosen.items():
        assert found[rule].regret == max(students.values()) - students[scale]
        assert found[rule].best == (students[scale] == max(students.values()))
    assert found[RANDOM].regret == pytest.approx(np.mean([max(students.values()) - it for it in students.values()]))
