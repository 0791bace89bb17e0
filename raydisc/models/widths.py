"""Widths: how many units each layer of a nested model keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self, cast

from pydantic import NonNegativeInt, TypeAdapter
from torch import nn

from raydisc.families.base import Config
from raydisc.families.registry import family_of, layers_of
from raydisc.families.units import LayerUnits, PrunableLinear
from raydisc.models.structure import Size, Structure
from raydisc.tensors.lazy_state import PartState, State, Taking


@dataclass(frozen=True)
class Widths(Structure):
    """The number of units kept in each layer, first layer first.

    Units are sorted by importance, so that counts say which ones are kept: the first ``heads[i]`` heads and the first
    ``neurons[i]`` neurons of layer ``i``.
    """

    kind: ClassVar[str] = "widths"
    heads: tuple[int, ...]
    neurons: tuple[int, ...]

    @classmethod
    def full(cls, config: Config) -> Self:
        """Return the widths of the teacher."""
        layers = layers_of(config)
        return cls(tuple(units.heads.count for units in layers), tuple(units.neurons.count for units in layers))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the widths in ``heads`` and ``neurons``."""
        heads, neurons = (_COUNTS.validate_python(values.get(name)) for name in ("heads", "neurons"))
        return cls(heads, neurons)

    def to_json(self) -> dict[str, Any]:
        """Return ``heads`` and ``neurons`` as lists."""
        return {"heads": list(self.heads), "neurons": list(self.neurons)}

    def contains(self, other: "Widths") -> bool:
        """Whether the other widths fit inside these, layer by layer."""
        return all(mine >= theirs for mine, theirs in zip(self.heads, other.heads, strict=True)) and all(
            mine >= theirs for mine, theirs in zip(self.neurons, other.neurons, strict=True)
        )

    def fits(self, config: Config) -> bool:
        """Whether the teacher is at least as wide in every layer."""
        full = Widths.full(config)
        same = len(self.heads) == len(full.heads) and len(self.neurons) == len(full.neurons)
        return same and full.contains(self)

    def of(self, layer: int, units: LayerUnits) -> list[tuple[PrunableLinear, int]]:
        """Return each prunable linear of a layer, with the number of its units that are kept."""
        heads = [(prunable, self.heads[layer]) for prunable in units.heads.linears]
        return [*heads, *((prunable, self.neurons[layer]) for prunable in units.neurons.linears)]

    def shape(self, model: nn.Module, config: Config) -> None:
        """Make the prunable linears as wide as the units that are kept."""
        for index, units in enumerate(layers_of(config)):
            for prunable, kept in self.of(index, units):
                linear = cast(nn.Linear, model.get_submodule(prunable.path))
                weight, bias = linear.weight, linear.bias
                linear.weight = nn.Parameter(prunable.first(weight.detach(), kept).clone())
                if prunable.axis == 0 and bias is not None:
                    linear.bias = nn.Parameter(prunable.first(bias.detach(), kept).clone())
                linear.out_features, linear.in_features = linear.weight.shape

    def cut(self, state: State, config: Config) -> State:
        """Return the weights of the first units of every layer; contiguous copies where views would not be."""
        takings: dict[str, list[Taking]] = {}
        for index, units in enumerate(layers_of(config)):
            for prunable, kept in self.of(index, units):
                taking = partial(prunable.first, units=kept)
                takings.setdefault(f"{prunable.path}.weight", []).append(taking)
                if prunable.axis == 0 and f"{prunable.path}.bias" in state:
                    takings.setdefault(f"{prunable.path}.bias", []).append(taking)
        return PartState(state, takings)

    def flops(self, layers: Sequence[LayerUnits], batch_size: int, length: int) -> int:
        """Return the FLOPs of projections, feed-forwards and attention scores.

        Scores that a causal or sliding mask leaves out are counted: they are computed before they are masked.
        """
        tokens, flops = batch_size * length, 0
        for units, heads, neurons in zip(layers, self.heads, self.neurons, strict=True):
            projections = heads * units.heads.weights(units.hidden_size)
            feed_forward = neurons * units.neurons.weights(units.hidden_size)
            attended = units.heads.input.kept(heads)
            flops += 2 * tokens * (projections + feed_forward) + 4 * tokens * length * attended
        return flops

    def size(self, config: Config, teacher_parameters: int) -> Size:
        """Return the size of a model of these widths."""
        whole, kept = prunable_parameters(config, Widths.full(config)), prunable_parameters(config, self)
        return Size(kept / whole, teacher_parameters - whole + kept)

    def plain(self, config: Config) -> Config | None:
        """Return the configuration of narrower layers, which must be alike, with a head and a neuron at least."""
        heads, neurons = set(self.heads), set(self.neurons)
        if len(heads) > 1 or len(neurons) > 1 or 0 in heads | neurons:
            return None
        return family_of(config).plain(config, *heads, *neurons)


_COUNTS = TypeAdapter(tuple[NonNegativeInt, ...])


def prunable_parameters(config: Config, widths: Widths) -> int:
    """Return the number of weights and biases of the units that are kept."""
    total = 0
    for units, heads, neurons in zip(layers_of(config), widths.heads, widths.neurons, strict=True):
        per_head, per_neuron = units.unit_parameters
        total += heads * per_head + neurons * per_neuron
    return total
