from collections import Counter

import numpy as np
import pytest
import torch

from raydisc.config.sections import DistillationConfig, FineTuneConfig
from raydisc.tasks.batching import shorter_half
from raydisc.testing.models import tiny_split
from raydisc.training.batches import BatchSource, optimiser_settings, steps_of

SPLIT = tiny_split([3 + index % 7 for index in range(50)])
CPU = torch.device("cpu")


def source(seed=0, batch_size=8, rows_at=lambda step: None):
    return BatchSource(SPLIT, batch_size, seed, 0, CPU, rows_at)


def test_an_epoch_has_every_row_once():
    batches = source()
    assert batches.steps_per_epoch == 7
    for epoch in range(3):
        rows = [row for step in range(7) for row in batches.rows(7 * epoch + step)]
        assert sorted(rows) == list(range(50))
    assert [list(batches.rows(step)) for step in range(7)] != [list(batches.rows(step)) for step in range(7, 14)]


def test_a_step_is_the_same_whenever_it_is_asked_for():
    """By seed and step alone: what a resumed stage relies on."""
    forwards = [list(source().rows(step)) for step in range(20)]
    one = source()
    assert [list(one.rows(step)) for step in reversed(range(20))] == forwards[::-1]
    assert [list(source(seed=1).rows(step)) for step in range(20)] != forwards


def test_tokens_are_those_of_all_batches():
    batches = source()
    seen = {token for step in range(7) for token in batches.batch(step).input_ids.flatten().tolist()}
    assert 0 in seen  # padding
    assert batches.tokens().tolist() == sorted(seen)


def test_batches_are_their_rows():
    batches = source()
    batch = batches.batch(3)
    assert list(batch.rows) == list(batches.rows(3))
    assert tuple(batch.input_ids.shape) == batches.shape(3)
    assert batch.attention_mask.sum(1).tolist() == SPLIT.lengths[batch.rows].tolist()
    assert batch.labels.tolist() == SPLIT.labels[batch.rows].tolist()


def test_a_curriculum_begins_with_the_shorter_rows():
    short = shorter_half(SPLIT.lengths)
    batches = source(rows_at=lambda step: short if step < 10 else None)
    begun = Counter(int(row) for step in range(8) for row in batches.rows(step))
    assert set(begun) == set(short.tolist())  # 25 rows, 4 steps: twice round in 8
    assert set(begun.values()) == {2}
    assert max(SPLIT.lengths[row] for row in begun) <= min(SPLIT.lengths[row] for row in set(range(50)) - set(begun))
    later = Counter(int(row) for step in range(14, 21) for row in batches.rows(step))
    assert set(later) == set(range(50))
    # the switch in the middle of an epoch goes on with that epoch's own batches
    assert [list(batches.rows(step)) for step in range(10, 14)] == [list(source().rows(step)) for step in range(10, 14)]


@pytest.mark.parametrize(("epochs", "steps"), [(3.0, 21), (1.5, 10), (0.5, 4), (0.001, 1)])
def test_epochs_in_steps(epochs, steps):
    assert steps_of(FineTuneConfig(epochs=epochs), 7) == steps


def test_a_sections_optimiser():
    config = FineTuneConfig(lr=3e-4, warmup=0.2, weight_decay=0.3, max_grad_norm=0.4, beta2=0.9)
    settings = optimiser_settings(config)
    assert (settings.lr, settings.warmup, settings.weight_decay) == (3e-4, 0.2, 0.3)
    assert (settings.max_grad_norm, settings.beta2) == (0.4, 0.9)
    assert np.isclose(optimiser_settings(DistillationConfig()).beta2, 0.999)
