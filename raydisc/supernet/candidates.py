"""The grid of candidates: nested subnets of the teacher, one for each scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import torch

from raydisc.config.sections import Allocation
from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.units import LayerUnits
from raydisc.models.structure import Size
from raydisc.models.widths import Widths, prunable_parameters, size_with_units
from raydisc.supernet.importance import Importance
from raydisc.tensors.lazy_state import PartState, State, Taking


@dataclass(frozen=True)
class Candidate:
    """The subnet of the teacher at one scale of the grid."""

    scale: float
    widths: Widths


@dataclass(frozen=True)
class UnitOrder:
    """For each layer, the teacher's units from the most important to the least."""

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]


def order_units(importance: Importance) -> UnitOrder:
    """Rank the units within each layer; equal scores keep the teacher's order."""
    return UnitOrder(
        heads=tuple(_ranked(score) for score in importance.heads),
        neurons=tuple(_ranked(score) for score in importance.neurons),
    )


def _ranked(score: torch.Tensor) -> tuple[int, ...]:
    return tuple(torch.argsort(score, descending=True, stable=True).tolist())


def candidate(importance: Importance, scale: float, allocation: Allocation = "global") -> Candidate:
    """The candidate that keeps the most important ``max(1, round(s N))`` heads and, separately, neurons.

    Units compete over the whole model, each kind on its own (arXiv 2205.14570, section 3.2), so a layer
    may lose all its heads or all its neurons; or, with ``uniform``, within each layer, N being the layer's.
    Candidates of one importance and allocation are nested.
    """
    kept = _kept if allocation == "global" else _kept_in_each
    return Candidate(scale, Widths(kept(importance.heads, scale), kept(importance.neurons, scale)))


def _kept_in_each(scores: tuple[torch.Tensor, ...], scale: float) -> tuple[int, ...]:
    return tuple(units_kept(len(score), scale) for score in scores)


def _kept(scores: tuple[torch.Tensor, ...], scale: float) -> tuple[int, ...]:
    sizes = [len(score) for score in scores]
    layer_of = torch.repeat_interleave(torch.arange(len(scores)), torch.tensor(sizes))
    best = torch.argsort(torch.cat(scores), descending=True, stable=True)[: units_kept(sum(sizes), scale)]
    return tuple(torch.bincount(layer_of[best], minlength=len(scores)).tolist())


def units_kept(total: int, scale: float) -> int:
    """Units of a kind that a scale keeps of so many."""
    return max(1, round(scale * total))


def size_at(config: Config, teacher_parameters: int, scale: float, allocation: Allocation = "global") -> Size:
    """The size of the candidate at a scale; it does not depend on which units are kept."""
    return size_with_units(config, teacher_parameters, *_units_at(Widths.full(config), scale, allocation))


def _units_at(full: Widths, scale: float, allocation: Allocation) -> tuple[int, int]:
    """Heads and neurons of the candidate at a scale."""
    if allocation == "uniform":
        heads, neurons = ([units_kept(count, scale) for count in kind] for kind in (full.heads, full.neurons))
        return sum(heads), sum(neurons)
    return units_kept(sum(full.heads), scale), units_kept(sum(full.neurons), scale)


_FINEST_SCALE = 0.001


def scale_for_parameters(
    config: Config, teacher_parameters: int, parameters: float, allocation: Allocation = "global"
) -> float:
    """The largest scale (a multiple of 0.001) whose model has at most this many parameters.

    Raises:
        InputError: even the smallest candidate is larger, or the teacher is smaller.
    """
    if parameters >= teacher_parameters:
        raise InputError(
            f"student.parameters: {parameters:.3g} is not below the teacher's {teacher_parameters:,} parameters"
        )
    steps = round(1 / _FINEST_SCALE)
    full, per_head, per_neuron = Widths.full(config), *(prunable_parameters(config, *one) for one in ((1, 0), (0, 1)))
    never_pruned = teacher_parameters - sum(full.heads) * per_head - sum(full.neurons) * per_neuron

    def at(step: int) -> int:
        heads, neurons = _units_at(full, step / steps, allocation)
        return never_pruned + heads * per_head + neurons * per_neuron

    fitting = [step for step in range(1, steps) if at(step) <= parameters]
    if not fitting:
        left = "all units but one" if allocation == "global" else "all units but one of each kind in every layer"
        raise InputError(
            f"student.parameters: {parameters:.3g} is below {at(1):,}, what remains when {left} are "
            "pruned (embeddings, norms and head are never pruned)"
        )
    return max(fitting) / steps


def reordered(state: State, layers: Sequence[LayerUnits], order: UnitOrder) -> State:
    """The teacher's weights with the units of every layer sorted by importance; the function is the same.

    Tensors are sorted as they are asked for, so that no second model is in memory.
    """
    takings: dict[str, list[Taking]] = {}
    for units, heads, neurons in zip(layers, order.heads, order.neurons, strict=True):
        for kind, ranked in ((units.heads, heads), (units.neurons, neurons)):
            for carrier in kind.carriers:
                taking = partial(carrier.sorted, order=ranked)
                takings.setdefault(f"{carrier.path}.weight", []).append(taking)
                if carrier.axis == 0 and f"{carrier.path}.bias" in state:
                    takings.setdefault(f"{carrier.path}.bias", []).append(taking)
        if units.head_order is not None:
            takings[units.head_order] = [itemgetter(list(heads))]
    return PartState(state, takings)
