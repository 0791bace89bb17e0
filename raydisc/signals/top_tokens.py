"""A language model's prediction of the next token in few numbers: its likeliest tokens, and all others as one class.

Shape letters: P predicted tokens of a batch, V vocabulary, k likeliest tokens.
"""

from dataclasses import dataclass

import torch

_SURE = -1e-6
"""The upper limit of the logarithm of the likeliest tokens' total probability, which leaves some to the others."""


@dataclass(frozen=True)
class Grouping:
    """The way in which a language model's predictions are kept in few numbers.

    Attributes:
        count: The number of likeliest tokens, k.
        temperature: The temperature τ by which logits are divided before the others are made one class.
    """

    count: int = 1
    temperature: float = 1.0


def likeliest(logits: torch.Tensor, grouping: Grouping) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the grouped prediction over the likeliest tokens, and these tokens.

    Args:
        logits: The logits over the vocabulary ``[P, V]``.
        grouping: The number of tokens, fewer than V, and the temperature.

    Returns:
        What ``grouped`` returns ``[P, k + 1]``, and the tokens ``[P, k]``.
    """
    tokens = logits.topk(grouping.count, dim=-1).indices
    return grouped(logits, tokens, grouping.temperature), tokens


def grouped(logits: torch.Tensor, tokens: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return logits of some tokens and, last, of all others together.

    Divided by the temperature τ, a softmax of them gives the softened probabilities of the tokens, and the sum of
    those of all others: what is softened is the distribution over the vocabulary. (To soften the grouped one would
    take nearly all probability from the others at τ = 2 and above.) The total probability stays one. A divergence
    between two distributions that are grouped alike is a lower bound of their divergence over the whole vocabulary
    (the data processing inequality).

    Args:
        logits: The logits over the vocabulary ``[P, V]``.
        tokens: The tokens ``[P, k]``.
        temperature: The temperature τ.

    Returns:
        The logarithms of the softened probabilities, times τ ``[P, k + 1]``.
    """
    softened = logits / temperature
    named = softened.gather(-1, tokens) - softened.logsumexp(dim=-1, keepdim=True)
    together = named.logsumexp(dim=-1, keepdim=True).clamp(max=_SURE)
    return temperature * torch.cat([named, torch.log(-torch.expm1(together))], dim=-1)
