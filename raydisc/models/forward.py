"""What a model says of a batch, in one shape for every family."""

from dataclasses import dataclass

import torch
from torch import nn

from raydisc.families.base import Mask
from raydisc.families.registry import family_of
from raydisc.models.precision import Precision, computing_in
from raydisc.tasks.tokenised import Batch


@dataclass(frozen=True)
class Outputs:
    """Logits and the hidden states that losses compare, float32 whatever they were computed in.

    Shapes: B rows, S tokens, D hidden size, C classes (1 for regression), L tokens with a tag, P predicted tokens,
    V vocabulary, k likeliest tokens.

    Attributes:
        logits: ``[B, C]``; of a token classifier ``[L, C]``; of a language model ``[P, V]``, or what ``likeliest`` says
            of them ``[P, k + 1]``.
        hidden: one ``[B, S, D]`` tensor for each matched position (0 is the embeddings' output).
        tokens: the likeliest tokens ``[P, k]``, where ``logits`` are of them and of all others together.
    """

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()
    tokens: torch.Tensor | None = None


def forward(model: nn.Module, batch: Batch, matched: tuple[int, ...], precision: Precision = "float32") -> Outputs:
    """Run a Hugging Face sequence classifier, token classifier or language model.

    Args:
        model: it; on rows of a language task a language model, which predicts each token but a row's first, on those of
            a token task a token classifier.
        batch: its input, on the model's device.
        matched: the positions whose hidden states are kept.
        precision: to compute in.
    """
    mask = _attention_mask(batch, family_of(model.config).mask(model.config))
    inputs = batch.inputs() | {"attention_mask": mask} | batch.kind.inputs(batch)
    with computing_in(precision, batch.input_ids.device):
        result = model(**inputs, output_hidden_states=list(matched) or False)
    logits = batch.kind.labelled_logits(result.logits, batch).float()
    hidden = tuple(result.hidden_states[position].float() for position in matched)
    if not len(batch.rows):  # run on another share's row, since models cannot be run on none
        return Outputs(logits[:0], tuple(states[:0] for states in hidden))
    return Outputs(logits, hidden)


def _attention_mask(batch: Batch, kind: Mask) -> torch.Tensor | None:
    """What the model is given of padding, none where there is none.

    An additive mask ``[B, 1, 1, S]`` the models would make of ones and zeros ``[B, S]`` themselves, but larger, and not
    before they have asked the device whether there is padding at all.
    """
    if kind == "none" or batch.real_tokens == batch.tokens:
        return None
    if kind == "tokens":
        return batch.attention_mask
    mask = torch.zeros(batch.attention_mask.shape, device=batch.attention_mask.device)
    mask.masked_fill_(batch.attention_mask == 0, torch.finfo(mask.dtype).min)
    return mask[:, None, None, :]
