"""A forward keeps no tensor that is not asked for; the contract of families tests its numbers."""

import weakref

import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.families.registry import layers_of
from raydisc.models.forward import forward
from raydisc.testing.models import layer_path, tiny_batch, tiny_teacher

pytestmark = pytest.mark.numerics


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
