"""The grid of candidates: nested subnets of the teacher, one for each scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from raydisc.errors import InputError
from raydisc.models.families import Config, LayerUnits, layers_of
from raydisc.models.state import PartState, State, Taking
from raydisc.models.widths import Widths, count_units, prunable_parameters
from raydisc.supernet.importance import Importance


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


def candidate(importance: Importance, scale: float) -> Candidate:
    """The candidate that keeps the most important ``max(1, round(s N))`` heads and, separately, neurons.

    Units compete over the whole model, each kind on its own (arXiv 2205.14570, section 3.2), so a layer
    may lose all its heads or all its neurons. Candidates of one importance are nested.
    """
    return Candidate(scale, Widths(_kept(importance.heads, scale), _kept(importance.neurons, scale)))


def _kept(scores: tuple[torch.Tensor, ...], scale: float) -> tuple[int, ...]:
    sizes = [len(score) for score in scores]
    layer_of = torch.repeat_interleave(torch.arange(len(scores)), torch.tensor(sizes))
    best = torch.argsort(torch.cat(scores), descending=True, stable=True)[: units_kept(sum(sizes), scale)]
    return tuple(torch.bincount(layer_of[best], minlength=len(scores)).tolist())


def units_kept(total: int, scale: float) -> int:
    """Units of a kind that a scale keeps over the whole model."""
    return max(1, round(scale * total))


@dataclass(frozen=True)
class Size:
    """How large a candidate is.

    Attributes:
        measured_scale: share of the prunable parameters (attention projections, feed-forward).
        parameters: of the whole model, with embeddings, norms and head, which are never pruned.
    """

    measured_scale: float
    parameters: int


def size_at(config: Config, teacher_parameters: int, scale: float) -> Size:
    """The size of the candidate at a scale; it does not depend on which units are kept."""
    heads, neurons = count_units(layers_of(config))
    whole = prunable_parameters(config, heads, neurons)
    kept = prunable_parameters(config, units_kept(heads, scale), units_kept(neurons, scale))
    return Size(kept / whole, teacher_parameters - whole + kept)


def chances(importance: Importance, candidates: Sequence[Candidate]) -> dict[float, float]:
    """For each scale the importance that its candidate keeps beyond the next smaller candidate's, never zero."""
    ranked = [[score.sort(descending=True).values for score in kind] for kind in (importance.heads, importance.neurons)]
    masses = {
        candidate.scale: sum(
            float(score[:kept].sum())
            for kind, counts in zip(ranked, (candidate.widths.heads, candidate.widths.neurons), strict=True)
            for score, kept in zip(kind, counts, strict=True)
        )
        for candidate in candidates
    }
    scales = sorted(masses)
    smaller = dict(zip(scales, [0.0, *(masses[scale] for scale in scales)], strict=False))
    return {scale: max(masses[scale] - smaller[scale], 1e-6) for scale in scales}


_FINEST_SCALE = 0.001


def scale_for_parameters(config: Config, teacher_parameters: int, parameters: float) -> float:
    """The largest scale (a multiple of 0.001) whose model has at most this many parameters.

    Raises:
        InputError: even the smallest candidate is larger, or the teacher is smaller.
    """
    if parameters >= teacher_parameters:
        raise InputError(
            f"student.parameters: {parameters:.3g} is not below the teacher's {teacher_parameters:,} parameters"
        )
    steps = round(1 / _FINEST_SCALE)
    fitting = [
        step for step in range(1, steps) if size_at(config, teacher_parameters, step / steps).parameters <= parameters
    ]
    if not fitting:
        floor = size_at(config, teacher_parameters, _FINEST_SCALE).parameters
        raise InputError(
            f"student.parameters: {parameters:.3g} is below {floor:,}, what remains when all units but one are pruned "
            "(embeddings, norms and head are never pruned)"
        )
    return max(fitting) / steps


def reordered(state: State, layers: Sequence[LayerUnits], order: UnitOrder) -> State:
    """The teacher's weights with the units of every layer sorted by importance; the function is the same.

    Tensors are sorted as they are asked for, so that no second model is in memory.
    """
    takings: dict[str, list[Taking]] = {}
    for units, heads, neurons in zip(layers, order.heads, order.neurons, strict=True):
        feed_forward = {*units.neuron_outputs, units.neuron_input}
        for path, axis, size in units.slices():
            index = _rows(neurons if path in feed_forward else heads, size)
            takings.setdefault(f"{path}.weight", []).append((axis, index))
            if axis == 0 and f"{path}.bias" in state:
                takings.setdefault(f"{path}.bias", []).append((0, index))
    return PartState(state, takings)


def _rows(units: tuple[int, ...], size: int) -> torch.Tensor:
    return (torch.tensor(units).unsqueeze(1) * size + torch.arange(size)).flatten()
