from __future__ import annotations

import numpy as np
import pytest
from ledger_world import IMPORTANCE, OUTPUTS, SUPERNET, TA_3, TA_5, VIA_3, VIA_5, VIA_SUPERNET, World

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.costs import Cost
from raydisc.report.summary import Summary, mean_cost, spread, summarise

MINIDISC_COST = OUTPUTS + IMPORTANCE + SUPERNET + VIA_SUPERNET
ORACLE_COST = OUTPUTS + IMPORTANCE + TA_3 + VIA_3
MAXIDISC_COST = ORACLE_COST + TA_5 + VIA_5


def line(summaries: list[Summary], schedule: str, path: float | None = None) -> Summary:
    wanted = [s for s in summaries if s.schedule == schedule and s.whole == (path is None)]
    [found] = [s for s in wanted if path is None or s.paths == ((path,),)]
    return found


def summaries_of(world: World) -> list[Summary]:
    return summarise(Bootstrap(world.ledger), comparison(world.ledger, ["r"]))


def test_each_schedule_has_a_line_and_one_with_several_paths_a_line_for_each(filled: World) -> None:
    found = [(s.schedule, s.whole, s.paths, s.oracle) for s in summaries_of(filled)]
    assert found == [
        ("kd", True, ((),), False),
        ("kd_equal_compute", True, ((),), False),
        ("kd_from_supernet", True, ((),), False),
        ("minidisc", True, ((0.3,),), False),
        ("maxidisc", True, ((0.3,),), False),
        ("maxidisc", False, ((0.5,),), False),
        ("maxidisc", False, ((0.3,),), True),
    ]


def test_a_path_whose_trials_differ_in_settings_has_the_line_of_the_best_by_validation(world: World) -> None:
    for seed in (0, 1):
        for name, path, validation in (("a", [], 0.7), ("b", [], 0.9), ("c", [0.5], 0.8)):
            student = world.stage(f"{name}-{seed}", "distil", [], flops=10.0)
            world.trial(f"{name}-{seed}", "optuna", student, validation + seed / 100, path=path, seed=seed)
    whole, straight, via = summaries_of(world)
    assert (whole.tried, straight.tried, via.tried) == (3, 2, 1)
    assert (straight.paths, via.paths) == (((),), ((0.5,),))
    assert straight.validation.mean == pytest.approx((0.9 + 0.91) / 2)
    assert straight.validation.sd == pytest.approx(np.std([0.9, 0.91], ddof=1)), "of seeds, not of settings"
    assert whole.validation.mean == straight.validation.mean
    assert straight.cost is not None
    assert straight.cost.flops == 10.0


def test_costs_relative_to_minidisc_and_to_the_oracle(filled: World) -> None:
    filled.fill(seed=1)
    summaries = summaries_of(filled)
    whole, mini, path = line(summaries, "maxidisc"), line(summaries, "minidisc"), line(summaries, "maxidisc", 0.5)
    assert whole.cost is not None
    assert whole.cost.flops == MAXIDISC_COST
    assert whole.cost_relative_to_reference == pytest.approx(MAXIDISC_COST / MINIDISC_COST)
    assert whole.cost_relative_to_oracle == pytest.approx(MAXIDISC_COST / ORACLE_COST)
    assert mini.cost_relative_to_reference == 1.0
    assert path.cost_relative_to_oracle == pytest.approx((OUTPUTS + IMPORTANCE + TA_5 + VIA_5) / ORACLE_COST)
    assert line(summaries, "maxidisc", 0.3).cost_relative_to_oracle == 1.0


def test_one_seed_has_no_deviation_and_two_have_one(filled: World) -> None:
    assert line(summaries_of(filled), "minidisc").test.sd is None
    filled.fill(seed=1, right={"minidisc": [1] * 8})
    test = line(summaries_of(filled), "minidisc").test
    assert test.mean == pytest.approx((5 / 8 + 1) / 2)
    assert test.sd == pytest.approx(np.std([5 / 8, 1], ddof=1))


def test_the_standard_error_of_a_mean_knows_that_seeds_share_their_examples(filled: World) -> None:
    alone = line(summaries_of(filled), "minidisc").test.se
    assert alone == pytest.approx(np.sqrt(5 / 8 * 3 / 8 / 8), rel=0.1)
    filled.fill(seed=1)
    # The second seed is right on the same examples: it adds nothing about them.
    assert line(summaries_of(filled), "minidisc").test.se == pytest.approx(alone)


def test_without_predictions_the_error_is_a_bound(world: World) -> None:
    for name, schedule, value in (("a", "maxidisc", 0.9), ("b", "kd", 0.7)):
        student = world.stage(name, "distil", [], 1)
        world.metric(f"test-{name}", "evaluate", "test", value)
        world.trial(name, schedule, student, value, test=f"test-{name}", path=[0.3] if schedule == "maxidisc" else [])
    kd = line(summaries_of(world), "kd")
    assert (kd.test.se, kd.validation.se) == (0.01, None)


def test_what_cannot_be_measured_is_not_invented(world: World) -> None:
    world.trial("t", "kd", world.stage("student", "distil", [], 0), 0.5)
    [kd] = summaries_of(world)
    assert (kd.test.mean, kd.test.sd, kd.test.se) == (None,) * 3
    assert kd.cost_relative_to_oracle is kd.cost_relative_to_reference is None
    assert summarise(Bootstrap(world.ledger), []) == []
    assert spread([0.5]) is None
    assert mean_cost([]) is mean_cost([Cost(1.0), None]) is None


def test_a_search_that_costs_nothing_divides_nothing(world: World) -> None:
    for schedule in ("minidisc", "maxidisc"):
        student = world.stage(schedule, "distil", [], 0)
        world.trial(schedule, schedule, student, 0.5, path=[0.3], lam=0.2)
    for summary in summaries_of(world):
        assert summary.cost_relative_to_reference is summary.cost_relative_to_oracle is None


def test_a_schedule_that_chose_differently_for_each_seed_names_both_paths(filled: World) -> None:
    student = filled.stage("minidisc-s1", "distil", [], 1)
    filled.trial(student, "minidisc", student, 0.6, seed=1, lam=0.2, path=[0.5])
    mini = [s for s in summaries_of(filled) if s.schedule == "minidisc"]
    assert [(s.whole, s.paths, s.tried) for s in mini] == [(True, ((0.3,), (0.5,)), 1)]
