"""What a model says of a batch, in one shape for every family."""

from dataclasses import dataclass

import torch
from torch import nn

from raydisc.tasks.tokenised import Batch


@dataclass(frozen=True)
class Outputs:
    """Logits and the hidden states that losses compare.

    Shapes: B rows, S tokens, D hidden size, C classes (1 for regression).

    Attributes:
        logits: ``[B, C]``.
        hidden: one ``[B, S, D]`` tensor for each matched position (0 is the embeddings' output).
    """

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


def forward(model: nn.Module, batch: Batch, matched: tuple[int, ...]) -> Outputs:
    """Run a Hugging Face sequence classifier; ``matched`` are the positions whose hidden states are kept."""
    result = model(**batch.inputs(), output_hidden_states=bool(matched))
    return Outputs(result.logits, tuple(result.hidden_states[position] for position in matched))
