"""Batches of like lengths: little padding, every row once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EVALUATION_BATCH = 64
"""Rows of a batch where nothing is trained."""

POOL = 50  # batches sorted together: enough that padding nearly vanishes, few enough that order stays random


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Batches of one epoch: rows shuffled, sorted by length in pools of 50 batches, batches shuffled.

    Args:
        lengths: Tokens of each row of the split `[N]`.
        batch_size: Rows of a batch; the last one of an epoch may be smaller.
        seed: With `epoch`, decides the order.
        epoch: Number of the epoch from 0.
        rows: Row numbers to use; None for all.

    Returns:
        Row numbers of each batch, int64; every row is in exactly one batch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(np.arange(len(lengths)) if rows is None else rows)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        batches += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of all rows, longest first (a batch that does not fit in memory fails at once)."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def shorter_half(lengths: np.ndarray) -> np.ndarray:
    """Row numbers of the half with the fewest tokens, in row order: what a curriculum begins with."""
    return np.sort(np.argsort(lengths, kind="stable")[: max(1, len(lengths) // 2)])


def padding_share(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of the computed tokens that are padding."""
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    return 1 - real / computed if computed else 0.0


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
