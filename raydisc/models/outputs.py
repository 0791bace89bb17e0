"""What a model says of a batch, in one shape for every family."""

from dataclasses import dataclass

import torch
from torch import nn

from raydisc.models.precision import Precision, computing_in
from raydisc.tasks.tokenised import Batch


@dataclass(frozen=True)
class Outputs:
    """Logits and the hidden states that losses compare, float32 whatever they were computed in.

    Shapes: B rows, S tokens, D hidden size, C classes (1 for regression).

    Attributes:
        logits: ``[B, C]``.
        hidden: one ``[B, S, D]`` tensor for each matched position (0 is the embeddings' output).
    """

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


def forward(model: nn.Module, batch: Batch, matched: tuple[int, ...], precision: Precision = "float32") -> Outputs:
    """Run a Hugging Face sequence classifier.

    Args:
        model: the classifier.
        batch: its input, on the model's device.
        matched: the positions whose hidden states are kept.
        precision: to compute in.
    """
    inputs = batch.inputs() | {"attention_mask": _attention_mask(batch)}
    with computing_in(precision, batch.input_ids.device):
        result = model(**inputs, output_hidden_states=list(matched) or False)
    logits, hidden = result.logits.float(), tuple(result.hidden_states[position].float() for position in matched)
    if not len(batch.rows):  # run on another share's row, since models cannot be run on none
        return Outputs(logits[:0], tuple(states[:0] for states in hidden))
    return Outputs(logits, hidden)


def _attention_mask(batch: Batch) -> torch.Tensor | None:
    """What attention adds to its scores ``[B, 1, 1, S]``, none without padding.

    The models would make it of a mask of ones and zeros, but larger, and not before they have asked the device
    whether there is padding at all.
    """
    if batch.real_tokens == batch.tokens:
        return None
    mask = torch.zeros(batch.attention_mask.shape, device=batch.attention_mask.device)
    mask.masked_fill_(batch.attention_mask == 0, torch.finfo(mask.dtype).min)
    return mask[:, None, None, :]
