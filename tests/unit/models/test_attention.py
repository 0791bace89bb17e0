"""Attention of a layer that has lost all its heads."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_config
from torch import nn

from raydisc.models.attention import sdpa_or_nothing
from raydisc.models.build import load_trainable
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.supernet.elastic import make_elastic, select
from raydisc.testing.models import state_of, tiny_batch, tiny_teacher
from raydisc.testing.tolerance import assert_near

WITHOUT_HEADS = Widths((2, 0, 4), (20, 0, 7))


def test_without_heads_it_is_what_the_kernel_gives():
    """Where the kernel takes empty tensors at all: the same shape, and a gradient for each of the three."""
    empty = [torch.randn(2, 0, 5, 6, requires_grad=True) for _ in range(3)]
    found, weights = sdpa_or_nothing(nn.Module(), *empty, None, dropout=0.1, scaling=0.5)
    expected = nn.functional.scaled_dot_product_attention(*empty).transpose(1, 2)
    assert weights is None
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert all(gradient.shape == (2, 0, 5, 6) for gradient in torch.autograd.grad(found.sum(), empty))


def test_with_heads_it_is_the_kernel():
    query, key, value = (torch.randn(2, 3, 5, 6) for _ in range(3))
    found, _ = sdpa_or_nothing(nn.Module(), query, key, value, None, scaling=0.5, is_causal=False)
    assert torch.equal(found, nn.functional.scaled_dot_product_attention(query, key, value, scale=0.5).transpose(1, 2))


def test_a_user_may_give_it_a_mask_of_ones_and_zeros():
    """Transformers leaves the mask out, without a word, for an attention whose masks it cannot make."""
    config = tiny_config()
    model = load_trainable(config, Widths.full(config), state_of(tiny_teacher(config))).eval()
    ids = torch.tensor([[7, 8, 9, 5, 5]])
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0]])).logits
        assert_near(padded, model(input_ids=ids[:, :3]).logits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("lengths", [(9, 3, 6, 1), (8, 8)], ids=["padding", "none"])  # they get other kernels
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_without_heads_on_a_gpu(family, lengths, precision):
    config = tiny_config(family)
    state, batch = state_of(tiny_teacher(config)), tiny_batch(config, lengths)
    elastic = load_trainable(config, Widths.full(config), state)
    make_elastic(elastic, config)
    select(elastic, config, WITHOUT_HEADS)
    for model in (elastic, load_trainable(config, WITHOUT_HEADS, WITHOUT_HEADS.cut(state, config))):
        expected = forward(model.eval(), batch, (1, 2)).logits.detach()
        found = forward(model.to("cuda"), batch.to(torch.device("cuda")), (1, 2), precision).logits
        assert_near(found.detach().cpu(), expected, 1e-4 if precision == "float32" else 0.1)
        found.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
