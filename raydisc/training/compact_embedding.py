"""The word embedding while a stage trains: only the rows of tokens that its training rows hold.

The gradient of an embedding is as large as the embedding, whatever few rows a batch touches, and clipping, AdamW and
checkpoints go over all of it. A stage knows its texts, so it trains the rows of their tokens alone. The rows left out
would have had a gradient of zero in every step, which AdamW answers with weight decay and nothing else.

V is the tokens of the vocabulary, D the hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn


class CompactVocabulary:
    """A model's word embedding cut to the rows of some tokens, until it is restored.

    It is still asked for tokens by their numbers, so that whatever else a model derives from them (RoBERTa its
    positions) does not change. A token whose row it does not have is an error.

    Args:
        model: a Hugging Face model, changed in place; the parameter's name stays.
        tokens: those that it is trained on; its own padding token is added.
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
        """All rows for a while, to read other texts than the training rows.

        Args:
            kept: what is left of each row that is not trained, as a factor.
        """
        self._uncut(nn.Parameter(self._full.detach() * kept, requires_grad=False))
        try:
            yield
        finally:
            self._cut()

    def restore(self, kept: float) -> None:
        """All rows for good, in the parameter that was there at first; ``kept`` as in ``whole``."""
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
