"""The outputs of a model for a batch, in one shape for every family."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from raydisc.families.base import Config, Mask
from raydisc.families.registry import family_of
from raydisc.models.precision import Precision, computing_in
from raydisc.tasks.tokenised import Batch


@dataclass(frozen=True)
class Outputs:
    """Logits and the hidden states that losses compare, in float32 whatever they were computed in.

    Shapes: B rows, S tokens, D hidden size, C classes (1 for regression), L tokens with a tag, P predicted tokens,
    V vocabulary, k likeliest tokens.

    Attributes:
        logits: Logits ``[B, C]``; of a token classifier ``[L, C]``; of a language model ``[P, V]``, or those of the
            likeliest tokens and of all others together ``[P, k + 1]``.
        hidden: A tensor ``[B, S, D]`` for each matched position; position 0 is the output of the embeddings.
        tokens: The likeliest tokens ``[P, k]``, if ``logits`` are reduced to them.
        inner: Numbers of each token ``[B, S, W]`` from inside the model, by the field of the signal that asks for them;
            without those that the model has no modules for.
    """

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()
    tokens: torch.Tensor | None = None
    inner: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Inner(Protocol):
    """A signal that is made of what modules inside a model compute; see ``raydisc.signals.inner.StudentSignal``."""

    field: str

    def modules(self, config: Config) -> Sequence[str]:
        """Return the paths of the modules."""

    def made_of(self, computed: Sequence[torch.Tensor], config: Config) -> torch.Tensor:
        """Return the numbers of each token ``[B, S, W]`` that the outputs of the modules make."""


def forward(
    model: nn.Module,
    batch: Batch,
    matched: tuple[int, ...],
    precision: Precision = "float32",
    inner: Sequence[Any] = (),
) -> Outputs:
    """Run a Hugging Face sequence classifier, token classifier or language model.

    Args:
        model: The model, with the head that the batch's kind of task needs.
        batch: The input, on the model's device.
        matched: The positions whose hidden states are kept.
        precision: The precision to compute in.
        inner: The signals that are made of what modules inside the model compute, each an ``Inner``.
    """
    mask = _attention_mask(batch, family_of(model.config).mask(model.config))
    inputs = batch.inputs() | {"attention_mask": mask} | batch.kind.inputs(batch)
    with computing_in(precision, batch.input_ids.device), _watched(model, inner) as computed:
        result = model(**inputs, output_hidden_states=list(matched) or False)
    logits = batch.kind.labelled_logits(result.logits, batch).float()
    hidden = tuple(result.hidden_states[position].float() for position in matched)
    there = [it for it in inner if it.field in computed]
    made = {it.field: it.made_of(computed[it.field], model.config).float() for it in there}
    if not len(batch.rows):  # run on another share's row, since models cannot be run on none
        made = {name: numbers[:0] for name, numbers in made.items()}
        return Outputs(logits[:0], tuple(states[:0] for states in hidden), inner=made)
    return Outputs(logits, hidden, inner=made)


@contextmanager
def _watched(model: nn.Module, inner: Sequence[Inner]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Note what the modules of some signals compute during a forward, by the signals' fields if there are any."""
    paths = {it.field: modules for it in inner if (modules := it.modules(model.config))}
    computed: dict[str, list[torch.Tensor]] = {field: [] for field in paths}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, found=computed[field]: found.append(output)
        )
        for field, modules in paths.items()
        for path in modules
    ]
    try:
        yield computed
    finally:
        for handle in handles:
            handle.remove()


def _attention_mask(batch: Batch, kind: Mask) -> torch.Tensor | None:
    """Return the attention mask of a batch; None if it has no padding.

    Models would make an additive mask ``[B, 1, 1, S]`` of ones and zeros ``[B, S]`` themselves, but a larger one, and
    only after waiting for the device to report whether there is any padding.
    """
    if kind == "none" or batch.real_tokens == batch.tokens:
        return None
    if kind == "tokens":
        return batch.attention_mask
    mask = torch.zeros(batch.attention_mask.shape, device=batch.attention_mask.device)
    mask.masked_fill_(batch.attention_mask == 0, torch.finfo(mask.dtype).min)
    return mask[:, None, None, :]
