"""The differences of a run's table: their sides, pairs, intervals and verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from ledger_world import World
from scipy import stats

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.differences import Difference, differences, schedules_compared
from raydisc.report.intervals import Interval


def differences_of(world: World, resamples: int = 1000, seed: int = 0) -> dict[tuple[str, str], Difference]:
    bootstrap = Bootstrap(world.ledger, resamples, seed)
    found = differences(bootstrap, schedules_compared(comparison(world.ledger, ["r"])))
    return {(it.above, it.below): it for it in found}


def half_width(interval: Interval) -> float:
    assert interval.low is not None
    return interval.mean - interval.low


def test_the_reference_and_the_oracle_are_compared_with_every_schedule(filled: World) -> None:
    others = ["kd", "kd_equal_compute", "kd_from_supernet"]
    expected = [(above, below) for below in others for above in ("minidisc", "oracle")]
    expected += [("oracle", "minidisc"), ("minidisc", "maxidisc"), ("oracle", "maxidisc")]
    found = differences_of(filled)
    assert list(found) == expected
    assert found["minidisc", "kd_equal_compute"].interval.mean == pytest.approx(1 / 8)
    assert {it.student_scale for it in found.values()} == {0.1}


def test_regret_is_paired_by_example_and_seed(world: World) -> None:
    world.base()
    half = [1, 1, 0, 0] * 100
    for seed in (0, 1):
        world.fill(seed, right={"via-0.3": [1, 1, 1, 0] * 100, "minidisc": half, "kd": half})
    found = differences_of(world)
    # The oracle is right wherever the others are and on a quarter of the 400 examples more, in both seeds. MiniDisc is
    # right where KD is: what differs are copies of one difference, so that it stands as if alone.
    regret = found["oracle", "minidisc"].interval
    assert (regret.mean, regret.teachers, regret.runs) == (pytest.approx(1 / 4), 1, 2)
    error = np.sqrt(1 / 4 * 3 / 4 / 400)
    assert half_width(regret) == pytest.approx(stats.norm.isf(0.025) * error, rel=0.1)
    assert found["oracle", "maxidisc"].interval == Interval(0.0, 0.0, 0.0, 1, 2)


def test_seeds_that_disagree_widen_the_interval(world: World) -> None:
    world.base()
    # One seed is for the oracle by half of the 400 examples, the other against it by as many: nothing is known.
    world.fill(seed=0, right={"via-0.3": [1] * 400, "minidisc": [1, 0] * 200})
    world.fill(seed=1, right={"via-0.3": [1, 0] * 200, "minidisc": [1] * 400})
    regret = differences_of(world)["oracle", "minidisc"].interval
    assert regret.mean == 0
    assert half_width(regret) > stats.t.isf(0.025, 1) * 0.5


def test_the_teacher_is_the_replicate_where_there_are_several(world: World) -> None:
    world.base()
    right = {0: [1, 1, 1, 0] * 100, 1: [1, 1, 0, 0] * 100}
    for teacher in (0, 1):
        for seed in (0, 1):
            world.fill(seed, {"via-0.3": right[teacher], "minidisc": [1, 0, 0, 0] * 100}, teacher)
    regret = differences_of(world)["oracle", "minidisc"].interval
    assert (regret.mean, regret.teachers, regret.runs) == (pytest.approx(3 / 8), 2, 4)
    # Two means over seeds, .5 and .25, and not four runs.
    assert half_width(regret) > stats.t.isf(0.025, 1) * np.std([0.5, 0.25], ddof=1) / np.sqrt(2)


def test_a_replicate_that_one_side_lacks_is_left_out(filled: World) -> None:
    student = filled.stage("minidisc-s1", "distil", [], 1)
    filled.trial(student, "minidisc", student, 0.6, seed=1, lam=0.2, test=filled.test(student, [0] * 8))
    regret = differences_of(filled)["oracle", "minidisc"].interval
    assert (regret.mean, regret.runs) == (pytest.approx(2 / 8), 1)


def test_a_run_by_another_teacher_is_no_partner(filled: World) -> None:
    student = filled.stage("kd-other", "distil", [], 1)
    test = filled.test(student, [0] * 8)
    filled.trial(student, "kd", student, 0.6, teacher_seed=7, test=test)
    assert differences_of(filled)["minidisc", "kd"].interval.runs == 1


def test_without_predictions_there_is_no_interval(world: World) -> None:
    for name, schedule, value in (("a", "maxidisc", 0.9), ("b", "kd", 0.7)):
        student = world.stage(name, "distil", [], 1)
        world.metric(f"test-{name}", "evaluate", "test", value)
        world.trial(name, schedule, student, value, test=f"test-{name}", path=[0.3] if schedule == "maxidisc" else [])
    found = differences_of(world)["oracle", "kd"]
    assert found.interval == Interval(pytest.approx(0.2), None, None, 1, 1)
    assert found.verdict == "no interval without predictions"


def test_what_cannot_be_measured_is_not_compared(world: World) -> None:
    world.trial("t", "kd", world.stage("student", "distil", [], 0), 0.5)
    world.trial("u", "minidisc", world.stage("other", "distil", [], 0), 0.5, lam=0.2)
    assert differences_of(world) == {}


def test_intervals_are_deterministic(filled: World) -> None:
    found = {seed: differences_of(filled, 50, seed) for seed in (0, 1)}
    assert all(differences_of(filled, 50, seed) == again for seed, again in found.items())
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.1, 0.05, 0.15, 1, 1), "a is ahead on these test rows, with this teacher"),
        (Interval(-0.1, -0.15, -0.05, 1, 1), "b is ahead on these test rows, with this teacher"),
        (Interval(0.1, 0.05, 0.15, 1, 3), "a is better with this teacher"),
        (Interval(0.1, 0.05, 0.15, 3, 3), "a is better"),
        (Interval(-0.1, -0.15, -0.05, 3, 6), "b is better"),
        (Interval(0.1, -0.05, 0.25, 3, 3), "cannot be told apart"),
        (Interval(0.0, 0.0, 0.0, 3, 3), "the same on every resample"),
        (Interval(0.1, None, None, 3, 3), "no interval without predictions"),
    ],
)
def test_a_verdict_says_no_more_than_its_replicates_allow(interval: Interval, verdict: str) -> None:
    assert Difference(0.1, "a", "b", interval).verdict == verdict
