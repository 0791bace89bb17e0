"""Confidence intervals of paired differences between schedules, which all hold at the same time.

A difference is measured on replicates (training runs) that share their test examples. Two things vary: the replicates,
and the examples that happen to be in the test set. A replicate's difference contains both, but the spread of replicates
shows only what they do not share: noise of the examples that all replicates have in common moves them together. The
variance of the mean over replicates is therefore estimated in two parts, as in a two-way layout,

* **between**: the variance of the replicates' differences over their number, with n - 1 degrees of freedom, which
  contains the noise of examples as far as it differs between replicates;
* **shared**: the rest of the example noise, from the bootstrap over examples with the replicates fixed.

The half-width is ``(t · between + z · shared) / sqrt(between + shared)``, with ``t`` and ``z`` the quantiles of
Student's distribution and of the normal one: Cochran and Cox's weighted quantile. It is never less than that of the
bootstrap.
``experiments/benchmarks/interval_coverage.py`` shows how often such intervals hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
"""The probability with which all intervals of a table hold together."""

DRAWS = 50_000
"""Draws from the joint distribution of a table's differences."""

_JITTER = 1e-6  # differences may be copies of each other, whose correlations have no Cholesky factor


@dataclass(frozen=True)
class Paired:
    """A difference as it was measured.

    Attributes:
        values: The difference in each run, ``[R]``.
        teachers: The teacher of each run, ``[R]``.
        resampled: The difference in each run on bootstrap resamples of the examples, ``[R, B]``, the same resamples for
            all differences; None without predictions.
    """

    values: np.ndarray
    teachers: Sequence[Hashable]
    resampled: np.ndarray | None

    @property
    def membership(self) -> np.ndarray:
        """The weight of each run in each replicate, ``[n, R]``.

        A replicate is a run where there is one teacher, and the mean of a teacher's runs where there are several.
        """
        names = list(dict.fromkeys(self.teachers))
        if len(names) == 1:
            return np.eye(len(self.values))
        belongs = np.array([[teacher == name for teacher in self.teachers] for name in names], dtype=np.float64)
        weights: np.ndarray = belongs / belongs.sum(1, keepdims=True)
        return weights


@dataclass(frozen=True)
class Interval:
    """A difference with its interval.

    Attributes:
        mean: The difference, averaged over replicates.
        low: The lower bound; None without predictions.
        high: The upper bound.
        teachers: The number of teachers that it pools.
        runs: The number of runs that it pools, each one teacher and one seed.
    """

    mean: float
    low: float | None
    high: float | None
    teachers: int
    runs: int

    @property
    def decides(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high

    @property
    def is_certain(self) -> bool:
        """Whether both sides are the same in every replicate and on every resample."""
        return self.low == self.high == 0.0


def simultaneous(differences: Sequence[Paired]) -> list[Interval]:
    """Return an interval for each difference of a table; with probability ``LEVEL`` all of them hold.

    A difference without predictions has no interval. One that does not vary cannot miss, and is not counted.
    """
    known = [it for it in differences if it.resampled is not None]
    alpha = level_of_each(np.array([_on_resamples(it).mean(0) for it in known])) if known else 1.0
    return [_interval(it, alpha) for it in differences]


def level_of_each(resampled: np.ndarray) -> float:
    """Return the probability with which each interval may miss, so that all hold together with probability ``LEVEL``.

    Differences of one table have schedules and examples in common, so that they miss together more often than
    independent ones. The largest of their absolute standardised errors is drawn from a normal distribution with the
    correlations that they have on resamples.

    Args:
        resampled: The differences on resamples, ``[K, B]``.
    """
    varying = resampled[resampled.std(1) > 0]
    if len(varying) < 2:
        return 1.0 - LEVEL
    factor = np.linalg.cholesky(np.corrcoef(varying) + _JITTER * np.eye(len(varying)))
    drawn = np.random.default_rng(0).standard_normal((DRAWS, len(varying))) @ factor.T
    return float(2.0 * stats.norm.sf(np.quantile(np.abs(drawn).max(1), LEVEL)))


def half_width(values: np.ndarray, alone: np.ndarray, together: np.ndarray, alpha: float) -> np.ndarray:
    """Return half the width of intervals that miss with probability ``alpha``.

    Args:
        values: The difference in each replicate, ``[..., n]``.
        alone: The variance of each over resamples of the examples, ``[..., n]``.
        together: The variance of their mean over resamples of the examples, ``[...]``.
        alpha: The probability of a miss.
    """
    normal = float(stats.norm.isf(alpha / 2))
    floor: np.ndarray = normal * np.sqrt(together)
    n = values.shape[-1]
    if n == 1:
        return floor
    between = values.var(-1, ddof=1) / n
    own = np.clip((alone.mean(-1) - together) / (n - 1), 0.0, together)  # example noise that replicates do not share
    shared = together - own
    student = float(stats.t.isf(alpha / 2, n - 1))
    total = np.sqrt(between + shared)
    weighted = np.divide(student * between + normal * shared, total, out=np.zeros_like(total), where=total > 0)
    wider: np.ndarray = np.maximum(weighted, floor)
    return wider


def _on_resamples(difference: Paired) -> np.ndarray:
    """Return the difference in each replicate on resamples, ``[n, B]``."""
    resampled: np.ndarray = difference.membership @ difference.resampled
    return resampled


def _interval(difference: Paired, alpha: float) -> Interval:
    values = difference.membership @ difference.values
    mean, teachers, runs = float(values.mean()), len(set(difference.teachers)), len(difference.values)
    if difference.resampled is None:
        return Interval(mean, None, None, teachers, runs)
    resampled = _on_resamples(difference)
    half = float(half_width(values, resampled.var(1, ddof=1), np.asarray(resampled.mean(0).var(ddof=1)), alpha))
    return Interval(mean, mean - half, mean + half, teachers, runs)
