"""The metric of an arm beyond what was spent on it: a line through its metrics over the logarithm of its FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_LEVEL = 0.95
_BEST = 1.0
"""The largest value of a metric."""
_WORST = -1.0
"""The smallest value of one that falls below 0."""


@dataclass(frozen=True)
class Point:
    """An arm on a rung.

    Attributes:
        flops: What it had cost by then.
        metric: Its validation metric.
        resampled: The metric on resamples of the examples, ``[B]``; None without predictions.
    """

    flops: float
    metric: float
    resampled: np.ndarray | None


@dataclass(frozen=True)
class Expected:
    """An extrapolated metric.

    Attributes:
        flops: The FLOPs that it is extrapolated to.
        metric: The metric on the line.
        low: The lower bound of an interval of 95 %; None where nothing is known of the error.
        high: The upper bound.
        points: The number of rungs that the line goes through. With two of them the interval knows the noise of
            examples alone, and not how far the curve is from a line.
    """

    flops: float
    metric: float
    low: float | None
    high: float | None
    points: int


def at_twice(points: Sequence[Point], flops: float) -> Expected | None:
    """Return the metric to be expected at twice some FLOPs; None with fewer than two points.

    Args:
        points: The arm on its rungs.
        flops: The FLOPs of the arm that was finished.

    Example:
        >>> found = at_twice([Point(1.0, 0.5, None), Point(2.0, 0.6, None), Point(4.0, 0.7, None)], 4.0)
        >>> round(found.metric, 3), round(found.high, 3)
        (0.8, 0.8)
    """
    if len(points) < 2 or len({point.flops for point in points}) < 2:
        return None
    x = np.log2([point.flops for point in points])
    y = np.array([point.metric for point in points])
    place = math.log2(2 * flops)
    weights = 1 / len(x) + (place - x.mean()) * (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    metric = float(weights @ y)
    variance = _of_examples(points, weights)
    if len(x) > 2:
        slope, intercept = np.polyfit(x, y, 1)
        rest = float(((y - slope * x - intercept) ** 2).sum()) / (len(x) - 2)
        quantile = float(stats.t.ppf((1 + _LEVEL) / 2, len(x) - 2))
        half = quantile * math.sqrt(rest * (1 + float(weights @ weights)) + (variance or 0.0))
    elif variance is not None:
        half = float(stats.norm.ppf((1 + _LEVEL) / 2)) * math.sqrt(variance)
    else:
        return Expected(2 * flops, min(metric, _BEST), None, None, len(x))
    low = metric - half if metric <= _BEST else min(metric - half, float(y[-1]))  # it flattens, perhaps at once
    worst = 0.0 if y.min() >= 0 else _WORST
    metric, low, high = (min(max(value, worst), _BEST) for value in (metric, low, metric + half))
    return Expected(2 * flops, metric, low, high, len(x))


def _of_examples(points: Sequence[Point], weights: np.ndarray) -> float | None:
    """Return the variance of the extrapolated metric over resamples of the examples; None without predictions."""
    resampled = [point.resampled for point in points if point.resampled is not None]
    if len(resampled) < len(points):
        return None
    return float((weights @ np.stack(resampled)).var(ddof=1))
