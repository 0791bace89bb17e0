"""The word embedding of a model in training, cut to the tokens that occur in the training rows.

The gradient of an embedding is as large as the embedding, however few rows a batch touches, and clipping, AdamW and
checkpoints process all of it. A stage knows its texts, so that it trains only the rows of their tokens. The other rows
would have a gradient of zero in every step, to which AdamW applies nothing but weight decay.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn


class CompactVocabulary:
    """A model's word embedding cut to the rows of some tokens, until it is restored.

    Tokens keep their numbers, so that whatever else a model derives from them does not change, such as the positions of
    RoBERTa. A token whose row was cut is an error.

    Args:
        model: A Hugging Face model, changed in place; the name of the parameter stays.
        tokens: The tokens that it is trained on; its own padding token is added.
    """

    def __init__(self, model: nn.Module, tokens: np.ndarray) -> None:
        """See the class."""
        embedding = cast(Any, model).get_input_embeddings()
        if not isinstance(embedding, nn.Embedding):
            raise TypeError(f"the word embedding is a {type(embedding).__name__}; only an nn.Embedding can be cut")
        self._embedding = embedding
        self._full = cast(nn.Parameter, embedding.weight)
        self._padding: int | None = embedding.padding_idx
        rows = np.union1d(tokens, [] if self._padding is None else [self._padding]).astype(np.int64)
        self._compact_padding = None if self._padding is None else int(np.searchsorted(rows, self._padding))
        self._tokens = torch.from_numpy(rows).to(self._full.device)
        self._places = torch.full((len(self._full),), -1, device=self._full.device)
        self._places[self._tokens] = torch.arange(len(self._tokens), device=self._full.device)
        self._compact = nn.Parameter(self._full.detach()[self._tokens])
        self._cut()

    @contextmanager
    def whole(self, kept: float) -> Iterator[None]:
        """Put all rows back for the duration of a ``with`` block, to read texts other than the training rows.

        Args:
            kept: The factor by which weight decay has shrunk the rows that are not trained.
        """
        self._uncut(nn.Parameter(self._full.detach() * kept, requires_grad=False))
        try:
            yield
        finally:
            self._cut()

    def restore(self, kept: float) -> None:
        """Put all rows back for good, in the original parameter; ``kept`` is as in ``whole``."""
        self._full.detach().mul_(kept)
        self._uncut(self._full)

    def _cut(self) -> None:
        self._hook = self._embedding.register_forward_pre_hook(lambda _, tokens: (self._places[tokens[0]],))
        self._hold(self._compact, self._compact_padding)

    def _uncut(self, full: nn.Parameter) -> None:
        full.detach()[self._tokens] = self._compact.detach()
        self._hook.remove()
        self._hold(full, self._padding)

    def _hold(self, weight: nn.Parameter, padding: int | None) -> None:
        self._embedding.weight, self._embedding.padding_idx = weight, padding
        self._embedding.num_embeddings = len(weight)
