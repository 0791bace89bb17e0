import numpy as np
import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.testing.models import tiny_split, tiny_teacher
from raydisc.testing.tolerance import assert_near
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = pytest.mark.numerics

LENGTHS = [5, 9, 1, 12, 3, 7, 7, 2, 10, 4, 6, 8, 11]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 13, 64])
@pytest.mark.parametrize("family", KINDS)
def test_every_row_once_and_in_order(family, batch_size):
    config = tiny_config(family, dropout=0.5)
    model, split, seen = tiny_teacher(config), tiny_split(LENGTHS), []
    found = predict(model.train(), split, config.pad_token_id, Pass(batch_size, lambda batch: seen.extend(batch.rows)))
    assert sorted(seen) == list(range(13))
    assert found.dtype == np.float32
    with torch.no_grad():
        batches = [split.batch(np.array([row]), config.pad_token_id) for row in range(13)]
        alone = torch.cat([model.eval()(**batch.inputs()).logits for batch in batches])
    assert_near(found, alone.numpy())
    assert len(np.unique(found, axis=0)) == 13


def test_one_output_for_regression():
    config = tiny_config(num_labels=1)
    found = predict(tiny_teacher(config), tiny_split(LENGTHS, 1), 0, Pass(4))
    assert found.shape == (13, 1)


@pytest.mark.parametrize("micro_batches", [2, 5, 7])
def test_micro_batches_say_what_whole_batches_say_and_are_told_of_once(micro_batches):
    config, split, seen, sizes = tiny_config(dropout=0.5), tiny_split(LENGTHS), [], []
    model = tiny_teacher(config)
    model.register_forward_pre_hook(lambda _, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True)
    whole = predict(model, split, config.pad_token_id, Pass(5))
    assert max(sizes) == 5
    sizes.clear()
    how = Pass(5, lambda batch: seen.append(batch.shape), micro_batches=micro_batches)
    assert_near(predict(model, split, config.pad_token_id, how), whole)
    assert max(sizes) == -(-5 // micro_batches)
    assert [rows for rows, _ in seen] == [5, 5, 3]
