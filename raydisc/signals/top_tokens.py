"""A language model's prediction of the next token in few numbers: its likeliest tokens, and all others as one class.

Shape letters: P predicted tokens of a batch, V vocabulary, k likeliest tokens.
"""

import torch

_SURE = -1e-6
"""The upper limit of the logarithm of the likeliest tokens' total probability, which leaves some to the others."""


def likeliest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the grouped prediction over the likeliest tokens, and these tokens.

    Args:
        logits: The logits over the vocabulary ``[P, V]``.
        count: The number of tokens, k; fewer than V.

    Returns:
        The logarithms of the probabilities of the tokens and, last, of all others together ``[P, k + 1]``; and the
        tokens ``[P, k]``.
    """
    tokens = logits.topk(count, dim=-1).indices
    return grouped(logits, tokens), tokens


def grouped(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the probabilities of some tokens and, last, of all others together.

    The total probability stays one. A divergence between two distributions that are grouped alike is a lower bound of
    their divergence over the whole vocabulary (the data processing inequality).

    Args:
        logits: The logits over the vocabulary ``[P, V]``.
        tokens: The tokens ``[P, k]``.

    Returns:
        Normalised log-probabilities ``[P, k + 1]``.
    """
    named = logits.gather(-1, tokens) - logits.logsumexp(dim=-1, keepdim=True)
    together = named.logsumexp(dim=-1, keepdim=True).clamp(max=_SURE)
    return torch.cat([named, torch.log(-torch.expm1(together))], dim=-1)
