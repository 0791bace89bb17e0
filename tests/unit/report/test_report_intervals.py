"""The intervals of differences, against the analysis of variance of whole tables of examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raydisc.report.intervals import LEVEL, Interval, Paired, level_of_each, simultaneous
from raydisc.tasks.metrics import bootstrap_weights

ROWS, RESAMPLES = 600, 4000
WEIGHTS = bootstrap_weights(ROWS, RESAMPLES, seed=5).astype(np.float64) / ROWS


def measured(examples: np.ndarray, teachers: Sequence[int]) -> Paired:
    """The difference whose value on each example ``[R, ROWS]`` is given, resampled."""
    return Paired(examples.mean(1), teachers, examples @ WEIGHTS.T)


def examples_of(seed: int, runs: int, spread: float, common: float) -> np.ndarray:
    """Values +1, 0 and -1 of the examples ``[runs, ROWS]``, partly alike in all runs."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((runs, ROWS))
    drawn[:, : round(common * ROWS)] = drawn[:1, : round(common * ROWS)]
    shift = rng.normal(0, spread, (runs, 1))
    return (drawn < 0.1 + shift).astype(float) - (drawn > 0.9)


def by_analysis_of_variance(table: np.ndarray, alpha: float) -> float:
    """Half the width, from the mean squares of the two-way table ``[n, ROWS]``; no resampling."""
    n, rows = table.shape
    z = stats.norm.isf(alpha / 2)
    floor = z * np.sqrt(table.mean(0).var() / rows)
    if n == 1:
        return float(floor)
    of_replicates, of_examples = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    residual = ((table - of_replicates - of_examples + table.mean()) ** 2).sum() / ((n - 1) * rows)
    of_mean = (of_examples - table.mean()) ** 2
    between = of_replicates.var(ddof=1) / n
    shared = max(0.0, float(of_mean.mean()) - residual / n) / rows
    t = stats.t.isf(alpha / 2, n - 1)
    weighted = (t * between + z * shared) / np.sqrt(between + shared) if between + shared else 0.0
    return float(max(weighted, floor))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 0.01, 0.05]), st.sampled_from([0.0, 0.5, 1.0]))
def test_one_interval_is_that_of_the_analysis_of_variance(seed: int, runs: int, spread: float, common: float) -> None:
    examples = examples_of(seed, runs, spread, common)
    [found] = simultaneous([measured(examples, [0] * runs)])
    assert found.mean == pytest.approx(examples.mean())
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.mean == pytest.approx(by_analysis_of_variance(examples, 0.05), rel=0.06)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert (found.teachers, found.runs) == (1, runs)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 3))
def test_several_teachers_are_the_replicates_and_their_seeds_are_averaged(seed: int, teachers: int, seeds: int) -> None:
    examples = examples_of(seed, teachers * seeds, 0.03, 0.5)
    labels = [run % teachers for run in range(teachers * seeds)]
    averaged = np.stack([examples[[it == teacher for it in labels]].mean(0) for teacher in range(teachers)])
    [found] = simultaneous([measured(examples, labels)])
    assert found.mean == pytest.approx(averaged.mean())
    assert found.high is not None
    assert found.high - found.mean == pytest.approx(by_analysis_of_variance(averaged, 0.05), rel=0.06)
    assert (found.teachers, found.runs) == (teachers, teachers * seeds)


def test_a_teacher_that_has_lost_a_seed_weighs_as_much_as_the_others() -> None:
    values = np.array([0.1, 0.3, 0.6])
    assert simultaneous([Paired(values, [0, 0, 1], None)]) == [Interval(pytest.approx(0.4), None, None, 2, 3)]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_an_interval_is_never_narrower_than_the_bootstrap_over_examples(seed: int, runs: int) -> None:
    difference = measured(examples_of(seed, runs, 0.0, 0.5), [0] * runs)
    [found] = simultaneous([difference])
    assert difference.resampled is not None
    error = difference.resampled.mean(0).std(ddof=1)
    assert found.high is not None
    assert found.high - found.mean >= stats.norm.isf(0.025) * error * (1 - 1e-12)


def test_the_level_of_each_is_that_of_independent_differences_or_of_one() -> None:
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(5, 20_000))
    assert level_of_each(independent) == pytest.approx(1 - LEVEL ** (1 / 5), rel=0.05)
    one = rng.normal(size=20_000)
    assert level_of_each(np.stack([one, one, -one, 2 * one])) == pytest.approx(0.05, rel=0.05)
    assert level_of_each(one[None]) == level_of_each(np.stack([one, 0 * one])) == pytest.approx(0.05)


@settings(max_examples=15)
@given(st.floats(-0.95, 0.95))
def test_the_level_of_each_of_two_is_that_of_the_bivariate_normal_distribution(correlation: float) -> None:
    rng = np.random.default_rng(1)
    two = np.linalg.cholesky([[1, correlation], [correlation, 1]]) @ rng.normal(size=(2, 20_000))
    bound = stats.norm.isf(level_of_each(two) / 2)
    joint = stats.multivariate_normal(cov=np.corrcoef(two)).cdf([bound, bound], lower_limit=[-bound, -bound])
    assert joint == pytest.approx(LEVEL, abs=0.004)


def test_intervals_of_a_table_widen_with_its_differences_but_not_with_copies() -> None:
    tables = [measured(examples_of(seed, 1, 0.0, 0.0), [0]) for seed in range(6)]
    assert tables[0].resampled is not None
    alone = simultaneous(tables[:1])[0]
    with_copies = simultaneous([tables[0], tables[0], Paired(-tables[0].values, [0], -tables[0].resampled)])[0]
    among_six = simultaneous(tables)[0]
    assert with_copies.high == pytest.approx(alone.high, rel=0.03)
    assert among_six.high is not None
    assert alone.high is not None
    assert (among_six.high - among_six.mean) / (alone.high - alone.mean) == pytest.approx(2.63 / 1.96, rel=0.03)


def test_what_cannot_vary_or_has_no_predictions_is_not_counted() -> None:
    varying = measured(examples_of(0, 2, 0.01, 0.5), [0, 0])
    certain = Paired(np.zeros(2), [0, 0], np.zeros((2, RESAMPLES)))
    unknown = Paired(np.array([0.1, 0.2]), [0, 0], None)
    found = simultaneous([varying, certain, unknown])
    assert found[0] == simultaneous([varying])[0]
    assert found[1] == Interval(0.0, 0.0, 0.0, 1, 2)
    assert found[1].is_certain
    assert found[2] == Interval(pytest.approx(0.15), None, None, 1, 2)
    assert simultaneous([]) == []
    assert simultaneous([unknown]) == found[2:]


def test_replicates_that_disagree_widen_the_interval() -> None:
    # One run is for the first side on half of the examples, the other against it on the same: the mean is 0 on each.
    examples = np.stack([np.tile([1.0, 0.0], ROWS // 2), np.tile([-1.0, 0.0], ROWS // 2)])
    [found] = simultaneous([measured(examples, [0, 0])])
    assert found.mean == 0
    assert found.high == pytest.approx(stats.t.isf(0.025, 1) * np.std([0.5, -0.5], ddof=1) / np.sqrt(2), rel=0.01)
