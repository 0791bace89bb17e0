"""Metrics: those of GLUE, exact by scikit-learn and SciPy, and others; each can be bootstrapped.

The value of a metric is always a number: it is 0 where the metric is undefined (a single class, constant predictions,
fewer than two rows) and where a prediction is not finite.

Example:
    >>> {"accuracy", "f1", "span_f1"} <= set(METRICS.names())
    True
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from raydisc.registry import Registry
from raydisc.tasks.tags import Counts, check_span_classes, right_spans, right_words

RESAMPLES = 1000
BLOCK = 100  # resamples multiplied at once: bounds the memory of a large split's bootstrap
FLAT = 1e-12  # a denominator below this is rounding error: the metric is undefined there


@dataclass(frozen=True)
class Shown:
    """Another form of a metric that readers of a table look for.

    Attributes:
        name: The column's name.
        value: The function that computes it from the metric.
    """

    name: str
    value: Callable[[float], float]


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Attributes:
        name: The name in experiment files.
        kind: Name of the kind of task that it is for (``raydisc.tasks.kinds``).
        value: ``(predictions, labels) -> float``, exact. Predictions are logits ``[N, C]`` for classification, numbers
            ``[N]`` or ``[N, 1]`` for regression, the mean loss of each row's tokens in nats ``[N]`` or ``[N, 1]`` for
            language, and the counts of each row ``[N, K]`` for tokens. Labels are ``[N]``; they mean nothing for
            language and tokens.
        statistics: ``(predictions, labels) -> [N, K]``, float64, whose means over examples determine the metric.
        from_means: ``[..., K] -> [...]``, the metric from means of the statistics.
        two_classes: Whether it is defined for two classes only, of which the second is the positive one.
        counts: The function that counts what it needs in a row of tagged words; needed for tokens only.
        check_classes: ``(name, classes)``; raises an ``InputError`` for class names that the metric cannot read.
        shown_as: Another form in which tables show the metric too.

    Example:
        >>> logits = np.array([[0.2, 0.8], [0.9, 0.1]])
        >>> labels = np.array([1, 1])
        >>> accuracy = METRICS.get("accuracy")
        >>> float(accuracy.value(logits, labels))
        0.5
    """

    name: str
    kind: str
    value: Callable[[np.ndarray, np.ndarray], float]
    statistics: Callable[[np.ndarray, np.ndarray], np.ndarray]
    from_means: Callable[[np.ndarray], np.ndarray]
    two_classes: bool = False
    counts: Counts | None = None
    check_classes: Callable[[str, Sequence[str]], None] | None = None
    shown_as: Shown | None = None


def metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        InputError: No metric has this name.
    """
    return METRICS.get(name, "task.metric")


def shown_as(name: str) -> Shown | None:
    """Return the other form of a metric; None where it has no other, or comes from a package that is not installed."""
    return METRICS.get(name).shown_as if name in METRICS else None


def bootstrap_weights(n: int, resamples: int, seed: int) -> np.ndarray:
    """Return the number of times that each of ``n`` examples is drawn in each resample ``[resamples, n]``, float32."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, n), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    return weights


@functools.lru_cache(maxsize=2)  # the validation and the test split of the task at hand
def _cached_weights(n: int, resamples: int, seed: int) -> np.ndarray:
    return bootstrap_weights(n, resamples, seed)


def resampled_metric(
    metric: Metric, predictions: np.ndarray, labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return the metric on bootstrap resamples of the examples, ``[resamples]`` float64.

    Two calls with the same number of examples and the same seed use the *same* resamples, so that differences of their
    results are paired by example. Spearman's ranks are those of the whole set in every resample, an approximation.

    Args:
        metric: The metric.
        predictions: Logits ``[N, C]``, or ``[N]`` / ``[N, 1]`` for regression.
        labels: Labels ``[N]``.
        resamples: The number of resamples.
        seed: The seed of the resampling.
    """
    statistics = metric.statistics(predictions, labels)
    weights = _cached_weights(len(labels), resamples, seed)
    means = [weights[i : i + BLOCK] @ statistics / len(labels) for i in range(0, resamples, BLOCK)]
    return np.asarray(metric.from_means(np.concatenate(means)), dtype=np.float64)


def standard_error(
    metric: Metric, predictions: np.ndarray, labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Return the standard deviation of the metric over bootstrap resamples of the examples."""
    return float(np.std(resampled_metric(metric, predictions, labels, resamples, seed), ddof=1))


def _finite(predictions: np.ndarray) -> bool:
    return bool(np.isfinite(predictions).all())


def _accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not _finite(predictions):
        return 0.0
    return float(sklearn_metrics.accuracy_score(labels, predictions.argmax(-1)))


def _f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not _finite(predictions):
        return 0.0
    return float(sklearn_metrics.f1_score(labels, predictions.argmax(-1), zero_division=0))


def _matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not _finite(predictions):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one label only: scikit-learn warns and returns 0, as documented here
        return float(sklearn_metrics.matthews_corrcoef(labels, predictions.argmax(-1)))


def _correlation(
    function: Callable[[np.ndarray, np.ndarray], Any], predictions: np.ndarray, labels: np.ndarray
) -> float:
    if len(labels) < 2 or not _finite(predictions):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input: SciPy warns and returns NaN, which counts 0
        value = float(function(_flat(predictions), labels.astype(np.float64)).statistic)
    return 0.0 if math.isnan(value) else value


def _pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    return _correlation(stats.pearsonr, predictions, labels)


def _spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    return _correlation(stats.spearmanr, predictions, labels)


def _accuracy_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    return (_accuracy(predictions, labels) + _f1(predictions, labels)) / 2


def _pearson_spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    return (_pearson(predictions, labels) + _spearman(predictions, labels)) / 2


def _token_likelihood(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the geometric mean of the probabilities of all tokens, 1 / perplexity; rows are equally long."""
    return math.exp(-float(_flat(predictions).mean())) if _finite(predictions) else 0.0


def _token_accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right tags over all words."""
    return float(_share_from_means(_counted(predictions, labels).mean(0)))


def _span_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the F1 over all spans."""
    return float(_span_f1_from_means(_counted(predictions, labels).mean(0)))


def _counted(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the counts ``[N, K]``, float64; zeros if any of them is not finite."""
    return predictions.astype(np.float64) if _finite(predictions) else np.zeros(predictions.shape)


def _losses(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each row's loss ``[N, 1]``; infinite for all rows if any of them is not finite."""
    losses = _flat(predictions)[:, None]
    return losses if _finite(losses) else np.full_like(losses, np.inf)


def _hits(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 for each right prediction ``[N, 1]``."""
    hits = np.zeros((len(labels), 1))
    if _finite(predictions):
        hits[:, 0] = predictions.argmax(-1) == labels
    return hits


def _confusion(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cell ``label * C + prediction`` of the confusion matrix for each example, one-hot ``[N, C * C]``.

    With two classes the columns are true negative, false positive, false negative, true positive.
    """
    classes = predictions.shape[-1]
    cells = np.zeros((len(labels), classes * classes))
    if _finite(predictions):
        cells[np.arange(len(labels)), labels.astype(np.int64) * classes + predictions.argmax(-1)] = 1
    return cells


def _moments(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return first and second moments of standardised predictions and labels ``[N, 5]``."""
    x, y = _standardised(_flat(predictions)), _standardised(labels.astype(np.float64))
    return np.stack([x, y, x * x, y * y, x * y], -1)


def _rank_moments(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if not _finite(predictions):
        return np.zeros((len(labels), 5))
    return _moments(stats.rankdata(_flat(predictions)), stats.rankdata(labels))


def _both_moments(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.concatenate([_moments(predictions, labels), _rank_moments(predictions, labels)], -1)


def _flat(predictions: np.ndarray) -> np.ndarray:
    return predictions.reshape(-1).astype(np.float64)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and deviation 1, so that moments do not cancel; zeros if constant or not finite."""
    if not _finite(values) or np.ptp(values) == 0:
        return np.zeros_like(values)
    standardised: np.ndarray = (values - values.mean()) / values.std()
    return standardised


def _perplexity(likelihood: float) -> float:
    return 1 / likelihood if likelihood > 0 else math.inf


def _token_likelihood_from_means(means: np.ndarray) -> np.ndarray:
    likelihood: np.ndarray = np.exp(-means[..., 0])
    return likelihood


def _share_from_means(means: np.ndarray) -> np.ndarray:
    return _ratio(means[..., 0], means[..., 1])


def _span_f1_from_means(means: np.ndarray) -> np.ndarray:
    right, predicted, given = np.moveaxis(means, -1, 0)
    return _ratio(2 * right, predicted + given)


def _accuracy_from_means(means: np.ndarray) -> np.ndarray:
    accuracy: np.ndarray = means[..., 0]
    return accuracy


def _f1_from_means(means: np.ndarray) -> np.ndarray:
    _, false_positive, false_negative, true_positive = np.moveaxis(means, -1, 0)
    return _ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative)


def _accuracy_f1_from_means(means: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (means[..., 0] + means[..., 3] + _f1_from_means(means)) / 2
    return mean


def _matthews_from_means(means: np.ndarray) -> np.ndarray:
    """Return Matthews' coefficient for any number of classes (Gorodkin 2004, R_K) from the confusion matrix."""
    classes = math.isqrt(means.shape[-1])
    matrix = means.reshape(*means.shape[:-1], classes, classes)
    labels, predictions = matrix.sum(-1), matrix.sum(-2)
    right = np.trace(matrix, axis1=-2, axis2=-1)
    covariance = right - (labels * predictions).sum(-1)
    spread = (1 - (labels**2).sum(-1)) * (1 - (predictions**2).sum(-1))
    return _ratio(covariance, spread, root=True)


def _pearson_from_means(means: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
    return _ratio(xy - x * y, np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0), root=True)


def _pearson_spearman_from_means(means: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (_pearson_from_means(means[..., :5]) + _pearson_from_means(means[..., 5:])) / 2
    return mean


def _ratio(numerator: np.ndarray, denominator: np.ndarray, root: bool = False) -> np.ndarray:
    """Return the quotient, on request by the denominator's square root; 0 where the denominator vanishes."""
    flat = denominator < FLAT
    safe = np.where(flat, 1.0, denominator)
    quotient: np.ndarray = np.where(flat, 0.0, numerator / (np.sqrt(safe) if root else safe))
    return quotient


METRICS: Registry[Metric] = Registry("raydisc.metrics", "metric", Metric, classes=False)
"""Every metric by its name in an experiment file; packages add theirs by the entry-point group ``raydisc.metrics``."""

for _metric in (
    Metric("accuracy", "classification", _accuracy, _hits, _accuracy_from_means),
    Metric("f1", "classification", _f1, _confusion, _f1_from_means, two_classes=True),
    Metric("matthews", "classification", _matthews, _confusion, _matthews_from_means),
    Metric("accuracy_f1", "classification", _accuracy_f1, _confusion, _accuracy_f1_from_means, two_classes=True),
    Metric("pearson", "regression", _pearson, _moments, _pearson_from_means),
    Metric("spearman", "regression", _spearman, _rank_moments, _pearson_from_means),
    Metric("pearson_spearman", "regression", _pearson_spearman, _both_moments, _pearson_spearman_from_means),
    Metric("token_accuracy", "tokens", _token_accuracy, _counted, _share_from_means, counts=right_words),
    Metric(
        "span_f1", "tokens", _span_f1, _counted, _span_f1_from_means,
        counts=right_spans, check_classes=check_span_classes,
    ),
    Metric(
        "token_likelihood", "language", _token_likelihood, _losses, _token_likelihood_from_means,
        shown_as=Shown("perplexity", _perplexity),
    ),
):  # fmt: skip
    METRICS.register(_metric)
