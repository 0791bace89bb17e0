"""Batches of like lengths: little padding, every row once."""

from __future__ import annotations

import numpy as np

EVALUATION_BATCH = 64
"""Number of rows of a batch that nothing is trained on."""

POOL = 50  # batches sorted together: enough that padding nearly vanishes, few enough that order stays random


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the batches of an epoch: rows shuffled, sorted by length in pools of 50 batches, batches shuffled.

    Args:
        lengths: Number of tokens of each row of the split ``[N]``.
        batch_size: Number of rows of a batch; the last batch of an epoch may be smaller.
        seed: The seed of the order, together with ``epoch``.
        epoch: The number of the epoch, from 0.
        rows: The numbers of the rows to use; None for all.

    Returns:
        The row numbers of each batch, int64; every row is in exactly one batch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(np.arange(len(lengths)) if rows is None else rows)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        batches += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return batches of all rows, longest first, so that a batch that does not fit in memory fails at once."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def shorter_half(lengths: np.ndarray) -> np.ndarray:
    """Return the numbers of the half of the rows with the fewest tokens, in row order, for a curriculum."""
    return np.sort(np.argsort(lengths, kind="stable")[: max(1, len(lengths) // 2)])


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
