"""Logits, and the tokens that they belong to in a language task.

Shape letters: L labels of a batch, C classes, k likeliest tokens.
"""

import torch

from raydisc.models.forward import Outputs
from raydisc.signals.base import Signal, SignalSizes
from raydisc.tasks.tokenised import Batch


class Logits(Signal):
    """The logits of each label ``[L, C]``; in a language task those of its likeliest tokens ``[L, k + 1]``."""

    field = "logits"
    of_tokens = False
    dtype = torch.float32

    @classmethod
    def entry_shape(cls, sizes: SignalSizes) -> tuple[int, ...]:
        """See ``Signal``."""
        return (sizes.num_logits,)

    @classmethod
    def taken(cls, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """See ``Signal``."""
        return outputs.logits


class LikeliestTokens(Signal):
    """The tokens that the logits of a language model belong to ``[L, k]``."""

    field = "tokens"
    of_tokens = False
    dtype = torch.int32

    @classmethod
    def entry_shape(cls, sizes: SignalSizes) -> tuple[int, ...]:
        """See ``Signal``."""
        return (sizes.num_tokens,)

    @classmethod
    def taken(cls, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """See ``Signal``."""
        assert outputs.tokens is not None
        return outputs.tokens.int()

    @classmethod
    def restored(cls, entries: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See ``Signal``."""
        return entries.long()
