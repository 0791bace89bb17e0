import numpy as np
import pytest

from raydisc.tasks.batching import evaluation_batches, shorter_half, training_batches


def lengths_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 60, n)


@pytest.mark.parametrize("n", [1, 7, 32, 33, 5000])
def test_every_row_is_in_exactly_one_batch(n):
    lengths = lengths_of(n)
    for batches in (training_batches(lengths, 32, 0, 0), evaluation_batches(lengths, 32)):
        np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n))
        assert max(map(len, batches)) <= 32
        assert len(batches) == -(-n // 32)


def test_order_depends_on_seed_and_epoch_alone():
    lengths = lengths_of(3000)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(training_batches(lengths, 16, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_batches_hold_rows_of_like_lengths():
    lengths = lengths_of(5000)
    in_order = [np.arange(i, min(i + 32, 5000)) for i in range(0, 5000, 32)]

    def spread(batches: list[np.ndarray]) -> float:
        return float(np.mean([np.ptp(lengths[batch]) for batch in batches]))

    assert spread(in_order) > 40
    assert spread(training_batches(lengths, 32, 0, 0)) < 3
    assert spread(evaluation_batches(lengths, 32)) < 1


def test_batches_of_an_epoch_are_not_sorted_by_length():
    lengths = lengths_of(5000)
    first = [lengths[batch].mean() for batch in training_batches(lengths, 32, 0, 0)]
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.3


def test_evaluation_begins_with_the_longest_row():
    lengths = lengths_of(100)
    assert lengths[evaluation_batches(lengths, 8)[0][0]] == lengths.max()


def test_chosen_rows_only():
    lengths = lengths_of(200)
    half = shorter_half(lengths)
    assert len(half) == 100
    assert lengths[half].max() <= np.delete(lengths, half).min()
    batches = training_batches(lengths, 16, 0, 0, rows=half)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), half)
