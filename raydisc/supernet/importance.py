"""Importance of units: the change of the loss if a unit were masked.

Shape letters: L layers, H heads, F neurons, B rows, S tokens.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from raydisc.families.units import LayerUnits, Units
from raydisc.models.forward import forward
from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.shard import whole
from raydisc.tasks.tokenised import Batch

FEWEST_UNITS = 4
"""The fewest units of a layer whose scores are normalised within the layer.

With one unit, such as the only key/value group of Gemma's attention, every score would be 1, and the ranking a tie;
with two or three, scores would say how uneven a layer is rather than what its units are worth."""


@dataclass(frozen=True)
class Importance:
    """One score for each unit of the teacher, L2-normalised within a layer, or over the model where layers are small.

    Attributes:
        heads: The scores of each layer's heads ``[H]``, in the teacher's own order.
        neurons: The scores of each layer's neurons ``[F]``, in the teacher's own order.
    """

    heads: tuple[torch.Tensor, ...]
    neurons: tuple[torch.Tensor, ...]


_SMALLEST_NORM = 1e-12


def gradient_importance(
    model: nn.Module,
    layers: tuple[LayerUnits, ...],
    batches: Iterable[Batch],
    rank: Rank = ALONE,
) -> Importance:
    """Return the expected absolute gradient of the loss with respect to a mask on each unit.

    This is eq. 2 of Michel et al. 2019 (arXiv 1905.10650). The expectation is over examples rather than batches: every
    example has masks of its own, so that one backward gives the gradient of each.

    Args:
        model: The teacher; its parameters are left without gradients.
        layers: The teacher's units.
        batches: The labelled training rows, each of them once; with several workers the shares of this one.
        rank: The rank of this worker; every worker returns the scores of all rows.

    Raises:
        ValueError: There is no batch.
    """
    model.requires_grad_(False).eval()
    totals: list[torch.Tensor] | None = None
    for batch in batches:
        with _masked(model, layers, len(batch.input_ids)) as masks:
            logits = forward(model, batch, ()).logits
            gradients = torch.autograd.grad(batch.kind.loss(logits, batch.labels), masks)
        sums = [gradient.abs().sum(dim=0).double() for gradient in gradients]
        totals = sums if totals is None else [total + new for total, new in zip(totals, sums, strict=True)]
    if totals is None:
        raise ValueError("importance needs at least one training row")
    summed = [rank.total(total).float() for total in totals]
    return _normalised(summed[0::2], summed[1::2])


def magnitude_importance(model: nn.Module, layers: tuple[LayerUnits, ...]) -> Importance:
    """Return the L2 norm of the weights that would be removed with each unit, a baseline that needs no data.

    All workers must call it, since the weights of a sharded model are gathered, one at a time.
    """
    heads = [_squared_norms(model, units.heads) for units in layers]
    neurons = [_squared_norms(model, units.neurons) for units in layers]
    return _normalised([score.sqrt() for score in heads], [score.sqrt() for score in neurons])


def random_importance(layers: tuple[LayerUnits, ...], seed: int) -> Importance:
    """Return uniform random scores, the baseline that shows whether importance matters."""
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.rand(units.heads.count, generator=generator) for units in layers]
    neurons = [torch.rand(units.neurons.count, generator=generator) for units in layers]
    return _normalised(heads, neurons)


def _normalised(heads: list[torch.Tensor], neurons: list[torch.Tensor]) -> Importance:
    return Importance(_normalised_kind(heads), _normalised_kind(neurons))


def _normalised_kind(scores: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Divide the scores of one kind of unit by their L2 norm: each layer's own, or the model's where layers are small.

    The norm of a layer keeps layers whose gradients are larger from taking all places (Michel et al. 2019, section
    4.1; arXiv 1905.10650); see ``FEWEST_UNITS`` for where it would leave nothing to rank.
    """
    if compares_over_the_model(map(len, scores)):
        norm = torch.cat(scores).norm().clamp(min=_SMALLEST_NORM)
        return tuple((score / norm).cpu() for score in scores)
    return tuple(functional.normalize(score, dim=0, eps=_SMALLEST_NORM).cpu() for score in scores)


def compares_over_the_model(counts: Iterable[int]) -> bool:
    """Whether units are so few in some layer that their scores are normalised over the model instead.

    Args:
        counts: The number of units of one kind in each layer.
    """
    return min(counts) < FEWEST_UNITS


@contextmanager
def _masked(model: nn.Module, layers: tuple[LayerUnits, ...], rows: int) -> Iterator[list[torch.Tensor]]:
    """Multiply what each unit passes to the layer's output projections by a mask of ones ``[B, units]``."""
    device = next(model.parameters()).device
    masks, handles = [], []
    for units in layers:
        for kind in (units.heads, units.neurons):
            mask = torch.ones(rows, kind.count, device=device, requires_grad=True)
            masks.append(mask)
            reader = model.get_submodule(kind.input.path)
            handles.append(reader.register_forward_pre_hook(_multiply_by(mask, kind.input.size)))
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


def _multiply_by(mask: torch.Tensor, size: int) -> Callable[[nn.Module, tuple[torch.Tensor]], tuple[torch.Tensor]]:
    def hook(_: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (args[0] * mask.repeat_interleave(size, dim=1).unsqueeze(1),)

    return hook


def _squared_norms(model: nn.Module, units: Units) -> torch.Tensor:
    total = torch.zeros((), device=next(model.parameters()).device)
    for linear in (units.input, *units.outputs):
        squares = whole(model.get_parameter(f"{linear.path}.weight").detach()).square().sum(dim=1 - linear.axis)
        total = total + squares.view(linear.blocks, units.count, linear.size).sum(dim=2).sum(dim=0)
    return total
