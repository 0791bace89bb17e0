from __future__ import annotations

import numpy as np
import pytest
from ledger_world import IMPORTANCE, OUTPUTS, SUPERNET, TA_3, TA_5, VIA_3, VIA_5, VIA_SUPERNET, World
from scipy import stats

from raydisc.report.compare import comparison
from raydisc.report.correlation import correlations
from raydisc.report.costs import Cost
from raydisc.report.regret import Bootstrap, Interval, paired_difference
from raydisc.report.rows import Row
from raydisc.report.summary import Summary, mean_cost, spread, summarise

MINIDISC_COST = OUTPUTS + IMPORTANCE + SUPERNET + VIA_SUPERNET
ORACLE_COST = OUTPUTS + IMPORTANCE + TA_3 + VIA_3
MAXIDISC_COST = ORACLE_COST + TA_5 + VIA_5


def line(summaries: list[Summary], schedule: str, path: float | None = None) -> Summary:
    wanted = [s for s in summaries if s.schedule == schedule and s.whole == (path is None)]
    [found] = [s for s in wanted if path is None or s.paths == ((path,),)]
    return found


def rows_of(world: World, schedule: str) -> list[Row]:
    return [r for r in comparison(world.ledger, ["r"]) if r.schedule == schedule and r.selected]


def summaries_of(world: World) -> list[Summary]:
    return summarise(world.ledger, comparison(world.ledger, ["r"]))


def test_each_schedule_has_a_line_and_one_with_several_paths_a_line_for_each(filled: World) -> None:
    found = [(s.schedule, s.whole, s.paths, s.oracle) for s in summaries_of(filled)]
    assert found == [
        ("kd", True, ((),), False),
        ("kd_equal_compute", True, ((),), False),
        ("kd_supernet_init", True, ((),), False),
        ("minidisc", True, ((0.3,),), False),
        ("maxidisc", True, ((0.3,),), False),
        ("maxidisc", False, ((0.5,),), False),
        ("maxidisc", False, ((0.3,),), True),
    ]


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


def test_regret_is_paired_by_example_and_seed(world: World) -> None:
    world.base()
    for seed in (0, 1):
        world.fill(seed, right={"via-0.3": [1, 1, 1, 0] * 100, "minidisc": [1, 1, 0, 0] * 100})
    regret = line(summaries_of(world), "minidisc").regret
    # The oracle is right wherever MiniDisc is and on a quarter of the 400 examples more, in both seeds, so that what
    # it gains in a resample is how many of those are drawn: a binomial number.
    assert regret is not None
    assert (regret.mean, regret.seeds) == (pytest.approx(1 / 4), 2)
    assert [regret.low, regret.high] == pytest.approx(stats.binom.ppf([0.025, 0.975], 400, 1 / 4) / 400, abs=0.006)
    own = line(summaries_of(world), "maxidisc").regret
    assert own == Interval(0.0, 0.0, 0.0, 2)


def test_seeds_that_disagree_widen_the_interval(world: World) -> None:
    world.base()
    # One seed is for the oracle by half of the 400 examples, the other against it by as many: nothing is known.
    world.fill(seed=0, right={"via-0.3": [1] * 400, "minidisc": [1, 0] * 200})
    world.fill(seed=1, right={"via-0.3": [1, 0] * 200, "minidisc": [1] * 400})
    regret = line(summaries_of(world), "minidisc").regret
    assert regret is not None
    assert regret.mean == 0
    # With two seeds drawn from two, a quarter of the draws are twice the first, a quarter twice the second.
    assert [regret.low, regret.high] == pytest.approx([-0.5, 0.5], abs=0.06)
    assert not regret.decides


def test_minidisc_stands_against_its_controls(filled: World) -> None:
    difference = line(summaries_of(filled), "kd_equal_compute").reference_minus
    assert difference is not None
    assert difference.mean == pytest.approx(1 / 8)
    assert not difference.decides
    assert Interval(0.1, 0.05, 0.2, 1).decides
    assert Interval(-0.1, -0.2, -0.05, 1).decides
    assert not Interval(0.1, None, None, 1).decides


def test_a_seed_that_one_side_lacks_is_left_out(filled: World) -> None:
    student = filled.stage("minidisc-s1", "distil", [], 1)
    filled.trial(student, "minidisc", student, 0.6, seed=1, lam=0.2, test=filled.test(student, [0] * 8))
    regret = line(summaries_of(filled), "minidisc").regret
    assert regret is not None
    assert (regret.mean, regret.seeds) == (pytest.approx(2 / 8), 1)


def test_without_predictions_there_is_no_interval_and_the_error_is_a_bound(world: World) -> None:
    for name, schedule, value in (("a", "maxidisc", 0.9), ("b", "kd", 0.7)):
        student = world.stage(name, "distil", [], 1)
        world.metric(f"test-{name}", "evaluate", "test", value)
        world.trial(name, schedule, student, value, test=f"test-{name}", path=[0.3] if schedule == "maxidisc" else [])
    kd = line(summaries_of(world), "kd")
    assert kd.regret == Interval(pytest.approx(0.2), None, None, 1)
    assert (kd.test.se, kd.validation.se) == (0.01, None)


def test_what_cannot_be_measured_is_not_invented(world: World) -> None:
    world.trial("t", "kd", world.stage("student", "distil", [], 0), 0.5)
    [kd] = summaries_of(world)
    assert (kd.test.mean, kd.test.sd, kd.test.se, kd.regret, kd.reference_minus) == (None,) * 5
    assert kd.cost_relative_to_oracle is kd.cost_relative_to_reference is None
    assert summarise(world.ledger, []) == []
    assert spread([0.5]) is None
    assert mean_cost([]) is mean_cost([Cost(1.0), None]) is None


def test_a_search_that_costs_nothing_divides_nothing(world: World) -> None:
    for schedule in ("minidisc", "maxidisc"):
        student = world.stage(schedule, "distil", [], 0)
        world.trial(schedule, schedule, student, 0.5, path=[0.3], lam=0.2)
    for summary in summaries_of(world):
        assert summary.cost_relative_to_reference is summary.cost_relative_to_oracle is None


def test_the_bootstrap_is_deterministic(filled: World) -> None:
    above, below = rows_of(filled, "maxidisc"), rows_of(filled, "minidisc")
    intervals = {
        seed: [paired_difference(Bootstrap(filled.ledger, 50, seed), above, below) for _ in range(2)] for seed in (0, 1)
    }
    assert all(first == again for first, again in intervals.values())


def test_a_schedule_that_chose_differently_for_each_seed_names_both_paths(filled: World) -> None:
    student = filled.stage("minidisc-s1", "distil", [], 1)
    filled.trial(student, "minidisc", student, 0.6, seed=1, lam=0.2, path=[0.5])
    mini = [s for s in summaries_of(filled) if s.schedule == "minidisc"]
    assert [(s.whole, s.paths, s.tried) for s in mini] == [(True, ((0.3,), (0.5,)), 1)]


def test_kendall_between_tradeoffs_and_students(filled: World) -> None:
    # Tradeoffs at λ .2: .5 → .9 + .1 = 1, .3 → .85 + .14 = .99; students on test: .5 → 6/8, .3 → 7/8. They disagree.
    [found] = correlations(filled.ledger, comparison(filled.ledger, ["r"]))
    assert (found.tau, found.scales, found.seeds, found.lam) == (-1.0, 2, 1, 0.2)


def test_kendall_averages_both_sides_over_seeds(filled: World) -> None:
    filled.fill(seed=1, right={"via-0.5": [1] * 8, "via-0.3": [0] * 8})
    # Means over seeds: .5 → (6 + 8) / 16, .3 → (7 + 0) / 16. Now they agree.
    [found] = correlations(filled.ledger, comparison(filled.ledger, ["r"]))
    assert (found.tau, found.seeds) == (1.0, 2)


def test_no_correlation_without_both_schedules(world: World) -> None:
    world.trial("t", "kd", world.stage("student", "distil", [], 1), 0.5)
    assert correlations(world.ledger, comparison(world.ledger, ["r"])) == []
