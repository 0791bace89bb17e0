from __future__ import annotations

import math

import numpy as np
import pytest

from raydisc.errors import InputError
from raydisc.report.uncertainty import indistinguishable, kendall, win_shares
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import bootstrap_weights, metric, resampled_metric
from raydisc.tradeoff import Measured, break_points, choose, clip_metric, rank, tradeoff

# Figure 1 of arXiv 2205.14570, read from the plot.
SCALES = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
MRPC = (0.915, 0.913, 0.913, 0.899, 0.889, 0.870)
QQP = (0.887, 0.886, 0.883, 0.881, 0.877, 0.870)


def candidates(metrics: tuple[float, ...], scales: tuple[float, ...] = SCALES) -> list[Measured]:
    return [Measured(scale, value) for scale, value in zip(scales, metrics, strict=True)]


@pytest.mark.parametrize("metrics", [MRPC, QQP], ids=["mrpc", "qqp"])
def test_the_papers_figure_1_picks_the_smallest_scale(metrics: tuple[float, ...]) -> None:
    assert choose(candidates(metrics), 0.2).scale == 0.2


def test_figure_1_on_mrpc_is_decided_by_a_thousandth() -> None:
    first, second = rank(candidates(MRPC), 0.2)[:2]
    assert (first.scale, second.scale) == (0.2, 0.3)
    margin = tradeoff(first.metric, first.scale, 0.2) - tradeoff(second.metric, second.scale, 0.2)
    assert margin == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("given", "clipped"), [(0.5, 0.5), (-0.2, 0.0), (1.5, 1.0), (math.nan, 0.0), (math.inf, 1.0), (-math.inf, 0.0)]
)
def test_the_metric_is_clipped(given: float, clipped: float) -> None:
    assert clip_metric(given) == clipped


def test_the_tradeoff_is_the_formula() -> None:
    assert tradeoff(0.9, 0.3, 0.2) == pytest.approx(0.9 + 0.2 * 0.7)
    assert tradeoff(math.nan, 0.5, 1.0) == 0.5


def test_lambda_0_picks_the_best_metric_and_a_large_one_the_smallest_scale() -> None:
    assert choose(candidates(MRPC), 0.0).scale == 0.7
    assert choose(candidates(MRPC), 100.0).scale == 0.2


def test_of_equal_tradeoffs_the_smaller_scale_wins_in_spite_of_rounding() -> None:
    # 0.86 + 0.2 * 0.7 and 0.9 + 0.2 * 0.5 are both 1, but not as floating-point numbers of every kind.
    assert [c.scale for c in rank(candidates((0.9, 0.86), (0.5, 0.3)), 0.2)] == [0.3, 0.5]
    assert [c.scale for c in rank(candidates((0.1 + 0.2, 0.3), (0.5, 0.3)), 0.0)] == [0.3, 0.5]


def test_only_scales_between_the_limits_are_chosen() -> None:
    assert choose(candidates(MRPC), 0.2, above=0.2).scale == 0.3
    assert choose(candidates(MRPC), 0.0, below=0.7).scale == 0.5  # 0.6 and 0.5 tie
    with pytest.raises(InputError, match="no candidate lies above scale 0.7,"):
        choose(candidates(MRPC), 0.2, above=0.7)


def test_break_points_are_where_two_lines_meet() -> None:
    # 0.9 + λ 0.3 = 0.8 + λ 0.7 at λ = 0.25; the third line is never on top.
    steps = break_points([Measured(0.7, 0.9), Measured(0.3, 0.8), Measured(0.5, 0.82)])
    assert steps == [(0.0, 0.25, 0.7), (0.25, math.inf, 0.3)]


def test_break_points_where_three_lines_meet_and_where_metrics_tie() -> None:
    three = [Measured(0.8, 0.9), Measured(0.6, 0.8), Measured(0.4, 0.7)]
    assert break_points(three) == [(0.0, 0.5, 0.8), (0.5, math.inf, 0.4)]
    assert break_points([Measured(0.8, 0.9), Measured(0.4, 0.9)]) == [(0.0, math.inf, 0.4)]
    assert break_points([]) == []


@pytest.mark.parametrize("metrics", [MRPC, QQP], ids=["mrpc", "qqp"])
def test_break_points_agree_with_the_choice_at_every_lambda(metrics: tuple[float, ...]) -> None:
    steps = break_points(map(Measured, SCALES, metrics))
    assert [low for low, _, _ in steps[1:]] == [high for _, high, _ in steps[:-1]]
    assert (steps[0][0], steps[-1][1]) == (0.0, math.inf)
    for low, high, scale in steps:
        assert choose(candidates(metrics), low).scale == scale  # at a break point the smaller scale wins
        assert choose(candidates(metrics), (low + min(high, low + 1)) / 2).scale == scale


def logits(right: np.ndarray) -> np.ndarray:
    return np.stack([right, 1 - right], -1)


def test_win_shares_of_a_sure_choice() -> None:
    right = np.ones(50)
    wrong = np.zeros(50)
    shares = win_shares({0.5: logits(right), 0.3: logits(wrong)}, np.zeros(50), "accuracy", 0.2)
    assert shares == {0.5: 1.0, 0.3: 0.0}


def test_candidates_with_the_same_predictions_tie_and_the_smaller_wins() -> None:
    same = logits(np.arange(50) % 2)
    assert win_shares({0.5: same, 0.3: same}, np.zeros(50), "accuracy", 0.0) == {0.5: 0.0, 0.3: 1.0}


def test_win_shares_are_paired() -> None:
    # A is right wherever B is, and on one more example: where that one is drawn A wins, elsewhere they tie.
    n = 20
    b = (np.arange(n) >= 10).astype(float)
    a = b.copy()
    a[0] = 1
    shares = win_shares({0.5: logits(a), 0.3: logits(b)}, np.zeros(n), "accuracy", 0.0, resamples=20_000)
    assert shares[0.5] == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.015)


def test_win_shares_are_deterministic_and_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    predictions = {s: logits((rng.random(100) < 0.8).astype(float)) for s in (0.5, 0.4, 0.3)}
    first = win_shares(predictions, np.zeros(100), "accuracy", 0.2, seed=3)
    assert first == win_shares(predictions, np.zeros(100), "accuracy", 0.2, seed=3)
    assert first != win_shares(predictions, np.zeros(100), "accuracy", 0.2, seed=4)
    assert sum(first.values()) == pytest.approx(1.0)
    assert list(first) == [0.5, 0.4, 0.3]


def test_win_shares_of_nothing() -> None:
    assert win_shares({}, np.zeros(3), "accuracy", 0.2) == {}
    assert win_shares({0.5: np.zeros((0, 2))}, np.zeros(0), "accuracy", 0.2) == {}


def test_predictions_that_are_not_numbers_never_win() -> None:
    broken = np.full((30, 2), np.nan)
    shares = win_shares({0.3: broken, 0.5: logits(np.ones(30))}, np.zeros(30), "accuracy", 0.2)
    assert shares == {0.5: 1.0, 0.3: 0.0}


def test_a_resampled_metric_is_the_metric_of_the_drawn_rows() -> None:
    rng = np.random.default_rng(1)
    predictions, labels = rng.random((40, 2)), rng.integers(0, 2, 40)
    resampled = resampled_metric(metric("f1"), predictions, labels, resamples=5, seed=7)
    for value, counts in zip(resampled, bootstrap_weights(40, 5, 7), strict=True):
        drawn = np.repeat(np.arange(40), counts.astype(int))
        assert value == pytest.approx(metric("f1").value(predictions[drawn], labels[drawn]))


def test_indistinguishable_candidates_win_often_enough() -> None:
    assert indistinguishable({0.5: 0.04, 0.4: 0.30, 0.3: 0.66}) == [0.3, 0.4]
    assert indistinguishable({0.5: 0.5, 0.4: 0.5}) == [0.4, 0.5]
    assert indistinguishable({0.5: 0.01, 0.4: 0.99}) == [0.4]
    assert indistinguishable({}) == []


def test_kendall_by_hand() -> None:
    # Of the three pairs two agree and one does not.
    assert kendall([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(1 / 3)


def test_kendall_knows_when_it_is_undefined() -> None:
    assert kendall([1.0, 1.0], [1.0, 2.0]) is None
    assert kendall([1.0], [1.0]) is None
    assert kendall([], []) is None


def test_a_language_models_likelihood_is_taken_relative_to_its_teachers() -> None:
    """m = exp(teacher loss - loss): likelihoods of .05 and .04 are far apart where the teacher's is .05."""
    teacher_loss, losses, scales = 3.0, np.array([3.1, 3.6]), (0.5, 0.2)
    reference = task_kind("language").reference(math.exp(-teacher_loss))
    assert tradeoff(math.exp(-losses[0]), 0.5, 0.2, reference) == pytest.approx(math.exp(-0.1) + 0.1)
    found = [Measured(s, math.exp(-loss), reference) for s, loss in zip(scales, losses, strict=True)]
    assert rank(found, 0.2)[0].scale == 0.5
    assert rank([Measured(c.scale, c.metric) for c in found], 0.2)[0].scale == 0.2
    predictions = {s: np.full((8, 1), loss) for s, loss in zip(scales, losses, strict=True)}
    labels = np.full(8, np.nan)
    assert win_shares(predictions, labels, "token_likelihood", 0.2, 50, reference=reference) == {0.5: 1.0, 0.2: 0.0}
    assert win_shares(predictions, labels, "token_likelihood", 0.2, 50) == {0.5: 0.0, 0.2: 1.0}


def test_the_metric_of_other_tasks_and_of_a_teacher_without_any_is_taken_as_it_is() -> None:
    assert all(task_kind(name).reference(0.9) == 1.0 for name in ("classification", "regression", "tokens"))
    assert task_kind("language").reference(0.0) == 1.0


def test_the_measured_scale_enters_the_tradeoff_and_the_nominal_one_is_the_name() -> None:
    """A nominal tenth that keeps a fifth of the parameters, since every layer keeps its one key/value group."""
    rounded = [Measured(0.3, 0.85, measured_scale=0.3), Measured(0.1, 0.82, measured_scale=0.199)]
    assert choose(rounded, 0.2).scale == 0.3  # by nominal scales it would be 0.1
    assert choose([Measured(it.scale, it.metric) for it in rounded], 0.2).scale == 0.1
    [(_, crossing, first), (_, _, second)] = break_points(rounded)
    assert (first, second) == (0.3, 0.1)
    assert crossing == pytest.approx(0.03 / (0.3 - 0.199))
    same = [Measured(0.2, 0.8, measured_scale=0.25), Measured(0.25, 0.8, measured_scale=0.25)]
    assert choose(same, 0.2).scale == 0.2
    assert break_points(same) == [(0.0, math.inf, 0.2)]
    sizes = {it.scale: it.size for it in rounded}
    predictions = {0.3: logits(np.arange(100) < 85), 0.1: logits(np.arange(100) < 82)}
    assert win_shares(predictions, np.zeros(100), "accuracy", 0.2, sizes=sizes)[0.3] > 0.5
    assert win_shares(predictions, np.zeros(100), "accuracy", 0.2)[0.3] < 0.5
