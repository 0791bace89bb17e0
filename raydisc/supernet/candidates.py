"""The grid of candidates: nested subnets of the teacher, one for each scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import torch

from raydisc.config.sections import Allocation
from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.widths import Widths
from raydisc.supernet.importance import Importance
from raydisc.tensors.lazy_state import PartState, State, Taking


@dataclass(frozen=True)
class Candidate:
    """The subnet of the teacher at one scale of the grid."""

    scale: float
    structure: Widths


@dataclass(frozen=True)
class UnitOrder:
    """The teacher's units of each layer, from the most important to the least."""

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
    """Return the candidate that keeps the most important ``max(1, round(s N))`` heads and, separately, neurons.

    With the allocation ``global`` the N units of a kind compete over the whole model (arXiv 2205.14570, section 3.2),
    so that a layer may lose all its heads or all its neurons. With ``uniform`` the N units of each layer compete.
    Candidates of the same importance and allocation are nested.

    Args:
        importance: The scores of all units.
        scale: The scale s.
        allocation: The units that compete with each other.
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
    """Return the number of units that a scale keeps of ``total``."""
    return max(1, round(scale * total))


def _units_at(full: Widths, scale: float, allocation: Allocation) -> tuple[int, int]:
    """Return the numbers of heads and of neurons in the candidate at a scale."""
    if allocation == "uniform":
        heads, neurons = ([units_kept(count, scale) for count in kind] for kind in (full.heads, full.neurons))
        return sum(heads), sum(neurons)
    return units_kept(sum(full.heads), scale), units_kept(sum(full.neurons), scale)


_FINEST_SCALE = 0.001


def scale_for_parameters(
    config: Config, teacher_parameters: int, parameters: float, allocation: Allocation = "global"
) -> float:
    """Return the largest scale, a multiple of 0.001, whose model has at most this many parameters.

    Raises:
        InputError: Even the smallest candidate is larger, the teacher is smaller, or the size of a candidate depends on
            which units it keeps.
    """
    if parameters >= teacher_parameters:
        raise InputError(
            f"student.parameters: {parameters:.3g} is not below the teacher's {teacher_parameters:,} parameters"
        )
    steps = round(1 / _FINEST_SCALE)
    full, costs = Widths.full(config), {units.unit_parameters for units in layers_of(config)}
    if len(costs) > 1:
        raise InputError(
            "student.parameters: units of this teacher's layers differ in size, so that the size of a student depends "
            "on which of them it keeps; give student.scale instead"
        )
    [(per_head, per_neuron)] = costs
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
    """Return the teacher's weights with the units of every layer sorted by importance; the model computes the same.

    Tensors are sorted when they are read, so that no second model is in memory.
    """
    takings: dict[str, list[Taking]] = {}
    for units, heads, neurons in zip(layers, order.heads, order.neurons, strict=True):
        for kind, ranked in ((units.heads, heads), (units.neurons, neurons)):
            for linear in kind.linears:
                taking = partial(linear.sorted, order=ranked)
                takings.setdefault(f"{linear.path}.weight", []).append(taking)
                if linear.axis == 0 and f"{linear.path}.bias" in state:
                    takings.setdefault(f"{linear.path}.bias", []).append(taking)
            takings.update((name, [itemgetter(list(ranked))]) for name in kind.buffers)
    return PartState(state, takings)
