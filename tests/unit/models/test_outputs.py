"""A forward is the model's own: the same numbers, fewer tensors kept."""

import weakref

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, KINDS, gradients_of, layer_path, tiny_batch, tiny_config, tiny_split, tiny_teacher
from tolerance import assert_all_near, assert_near

from raydisc.families.registry import layers_of
from raydisc.models.forward import forward

pytestmark = pytest.mark.numerics

POSITIONS = (0, 2, 3)


@pytest.mark.parametrize("lengths", [(9, 3, 6, 1), (5, 5)])
@pytest.mark.parametrize(
    ("family", "attention"), [*((family, "sdpa") for family in FAMILIES), *((family, "eager") for family in KINDS)]
)
def test_outputs_and_gradients_are_those_of_transformers(family, attention, lengths):
    config = tiny_config(family, attention=attention)
    batch = tiny_batch(config, lengths)
    model, plain = tiny_teacher(config), tiny_teacher(config)
    found, result = forward(model, batch, POSITIONS), plain(**batch.inputs(), output_hidden_states=True)
    real = batch.attention_mask.bool()
    assert_near(found.logits, result.logits)
    for mine, position in zip(found.hidden, POSITIONS, strict=True):
        assert_near(mine[real], result.hidden_states[position][real])
    for logits, hidden in ((found.logits, found.hidden[1]), (result.logits, result.hidden_states[2])):
        (logits.sum() + hidden[real].square().sum()).backward()
    assert_all_near(gradients_of(model), gradients_of(plain))
    assert float(model.get_input_embeddings().weight.grad.abs().max()) > 0.1


@pytest.mark.parametrize("positions", [(), (2,), (0, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("family", KINDS)
def test_hidden_states_that_nobody_compares_are_not_kept(family, positions):
    config = tiny_config(family)
    model = tiny_teacher(config)
    states, kept = [], []

    def seen(module, inputs, output):
        states.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

    for units in layers_of(config):
        model.get_submodule(layer_path(units)).register_forward_hook(seen)
    head = getattr(model, "score", None) or model.classifier
    head.register_forward_pre_hook(lambda *_: kept.extend(state() is not None for state in states))
    with torch.no_grad():
        found = forward(model, tiny_batch(config), positions)
    assert kept[:2] == [1 in positions, 2 in positions]  # the head, or the norm before it, reads the last one
    assert len(found.hidden) == len(positions)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family):
    """A row alone, unpadded, gives what it gives beside a longer one."""
    config = tiny_config(family)
    model, split = tiny_teacher(config), tiny_split((3, 11, 7))
    with torch.no_grad():
        together = forward(model, split.batch(np.arange(3), config.pad_token_id), POSITIONS)
        rows = [forward(model, split.batch(np.array([row]), config.pad_token_id), POSITIONS) for row in range(3)]
    assert_near(together.logits, torch.cat([alone.logits for alone in rows]))
    for row, (alone, length) in enumerate(zip(rows, split.lengths, strict=True)):
        for padded, whole in zip(together.hidden, alone.hidden, strict=True):
            assert_near(padded[row, :length], whole[0])
