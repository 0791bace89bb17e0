"""Dense models that are built of weights; the contract of families tests that they compute the right function."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_config

from raydisc.models.attention import SDPA_OR_NOTHING
from raydisc.models.build import build, load_frozen, load_trainable
from raydisc.models.widths import Widths
from raydisc.testing.models import state_of, tiny_teacher


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_aliases_and_trainable_copies(family):
    config = tiny_config(family)
    state = state_of(tiny_teacher(config))
    widths = Widths.full(config)
    frozen, trainable = load_frozen(config, widths, state), load_trainable(config, widths, state)
    for name, parameter in frozen.named_parameters():
        assert parameter.data_ptr() == state[name].data_ptr()
        assert not parameter.requires_grad
    for name, parameter in trainable.named_parameters():
        assert parameter.data_ptr() != state[name].data_ptr()
        assert parameter.requires_grad
        assert torch.equal(parameter, state[name])
    assert not frozen.training


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_asked_for_is_the_one_that_runs(attention):
    config = tiny_config(attention=attention)
    dense = build(config, Widths((2, 0, 1), (3, 4, 0)))
    assert dense.config._attn_implementation == {"sdpa": SDPA_OR_NOTHING}.get(attention, attention)
    assert tiny_teacher(config).config._attn_implementation == config._attn_implementation == attention
