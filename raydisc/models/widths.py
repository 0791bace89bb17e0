"""Widths: how many units each layer of a nested model keeps, whichever family they are of."""

from collections.abc import Sequence
from dataclasses import dataclass

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import Carrier, LayerUnits


@dataclass(frozen=True)
class Widths:
    """Units kept in each layer, first layer first.

    Units are ordered by importance, so these counts say which ones: the first ``heads[i]`` heads and
    the first ``neurons[i]`` neurons of layer ``i``.
    """

    heads: tuple[int, ...]
    neurons: tuple[int, ...]

    @staticmethod
    def full(config: Config) -> "Widths":
        """The teacher's widths."""
        layers = layers_of(config)
        return Widths(tuple(units.heads.count for units in layers), tuple(units.neurons.count for units in layers))

    def contains(self, other: "Widths") -> bool:
        """Whether the other widths fit inside these, layer by layer."""
        return all(mine >= theirs for mine, theirs in zip(self.heads, other.heads, strict=True)) and all(
            mine >= theirs for mine, theirs in zip(self.neurons, other.neurons, strict=True)
        )

    def of(self, layer: int, units: LayerUnits) -> list[tuple[Carrier, int]]:
        """Each prunable linear of a layer, and how many of its units are kept."""
        heads = [(carrier, self.heads[layer]) for carrier in units.heads.carriers]
        return [*heads, *((carrier, self.neurons[layer]) for carrier in units.neurons.carriers)]


def prunable_parameters(config: Config, heads: int, neurons: int) -> int:
    """Weights and biases that ``heads`` heads and ``neurons`` neurons take, whichever layers they are in."""
    units = layers_of(config)[0]
    per_head, per_neuron = (kind.weights(units.hidden_size) + kind.biases for kind in (units.heads, units.neurons))
    return heads * per_head + neurons * per_neuron


def count_units(layers: Sequence[LayerUnits]) -> tuple[int, int]:
    """Heads and neurons of a whole teacher."""
    return sum(units.heads.count for units in layers), sum(units.neurons.count for units in layers)
