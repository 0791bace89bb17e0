"""The uncertainty of a ranking of candidates: win shares over resamples, and rank correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from raydisc.tasks.metrics import RESAMPLES, resampled_metric
from raydisc.tasks.metrics import metric as named_metric
from raydisc.tradeoff import DECIMALS


def win_shares(
    predictions: Mapping[float, np.ndarray],
    labels: np.ndarray,
    metric: str,
    lam: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
    reference: float = 1.0,
    sizes: Mapping[float, float] | None = None,
) -> dict[float, float]:
    """Return the share of resamples of the validation examples in which each candidate has the best tradeoff.

    A paired bootstrap: within a resample every candidate is judged on the same examples.

    Args:
        predictions: For each candidate's scale its validation predictions, ``[N, C]`` or ``[N]``, rows in the
            same order.
        labels: ``[N]``.
        metric: A name of ``raydisc.tasks.metrics.METRICS``.
        lam: The weight λ ≥ 0 of smallness against the metric.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same shares.
        reference: The divisor of the metrics, the same in every resample.
        sizes: The measured scale of each candidate by its nominal one, which enters the tradeoff; the nominal scales
            by default.

    Returns:
        Scale → share, scales falling, shares summing to 1; empty without candidates or without examples.
    """
    if not predictions or len(labels) == 0:
        return {}
    scales = sorted(predictions)  # rising: argmax takes the first of equals, which is the smaller scale
    measure = named_metric(metric)
    metrics = np.stack([resampled_metric(measure, predictions[s], labels, resamples, seed) for s in scales])
    bonus = lam * (1.0 - np.asarray([(sizes or {}).get(scale, scale) for scale in scales]))[:, None]
    tradeoffs = np.round(np.clip(np.nan_to_num(metrics / reference, nan=0.0), 0.0, 1.0) + bonus, DECIMALS)
    wins = np.bincount(np.argmax(tradeoffs, axis=0), minlength=len(scales))
    return {scale: float(count) / resamples for scale, count in sorted(zip(scales, wins, strict=True), reverse=True)}


def indistinguishable(shares: Mapping[float, float], threshold: float = 0.05) -> list[float]:
    """Return the scales that win at least ``threshold`` of the resamples, most wins first; of equals the smaller.

    More than one of them means that the choice of teacher assistant is within noise.
    """
    return sorted((s for s, share in shares.items() if share >= threshold), key=lambda s: (-shares[s], s))


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Kendall's τ-b of two sequences; None where it is undefined: fewer than two pairs, or one side constant."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(stats.kendalltau(x, y).statistic)
