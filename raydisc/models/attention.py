"""Attention for nested models, whose layers may have lost all their heads."""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_OR_NOTHING = "sdpa_or_nothing"
"""The name of this implementation in transformers."""


def sdpa_or_nothing(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Compute scaled dot-product attention; without heads nothing is computed.

    A GPU's fused kernels need not take empty tensors (https://github.com/pytorch/pytorch/issues/133780).

    Args:
        module: The attention layer.
        query: A tensor ``[B, H, S, d]`` with batch B, H heads, S tokens and head size d, as are ``key`` and ``value``.
        key: See ``query``.
        value: See ``query``.
        attention_mask: The mask of the tokens, or None.
        settings: The other arguments that transformers passes to an attention implementation.

    Returns:
        ``[B, S, H, d]``, and no weights.
    """
    if query.shape[1] == 0:
        return (query + key + value).transpose(1, 2), None  # of all three, so that each gets a gradient
    return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(SDPA_OR_NOTHING, sdpa_or_nothing)
AttentionMaskInterface.register(SDPA_OR_NOTHING, sdpa_mask)
