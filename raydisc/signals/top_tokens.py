"""What a language model says of the next token, in few numbers: the likeliest tokens, and all others together.

Shape letters: P predicted tokens of a batch, V vocabulary, k likeliest tokens.
"""

import torch

_SURE = -1e-6
"""The most that the logarithm of the likeliest tokens' probability counts, so that the others keep some."""


def likeliest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` likeliest tokens of each prediction, and what is said of them.

    Args:
        logits: ``[P, V]``.
        count: k, fewer than V.

    Returns:
        Logarithms of the probabilities of those tokens and, last, of all others together ``[P, k + 1]``; the tokens
        ``[P, k]``.
    """
    tokens = logits.topk(count, dim=-1).indices
    return grouped(logits, tokens), tokens


def grouped(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Logarithms of the probabilities of some tokens and, last, of all others together.

    A divergence between two distributions that were grouped alike is a lower bound of the one between them as they
    were (the data processing inequality), and no probability is lost or made up.

    Args:
        logits: ``[P, V]``.
        tokens: ``[P, k]``.

    Returns:
        ``[P, k + 1]``, normalised.
    """
    named = logits.gather(-1, tokens) - logits.logsumexp(dim=-1, keepdim=True)
    together = named.logsumexp(dim=-1, keepdim=True).clamp(max=_SURE)
    return torch.cat([named, torch.log(-torch.expm1(together))], dim=-1)
