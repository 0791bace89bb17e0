"""Widths: how many units each layer of a nested model keeps, whichever family they are of."""

from collections.abc import Sequence
from dataclasses import dataclass

from raydisc.models.families import Config, LayerUnits, layers_of


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
        return Widths(tuple(units.num_heads for units in layers), tuple(units.num_neurons for units in layers))

    def contains(self, other: "Widths") -> bool:
        """Whether the other widths fit inside these, layer by layer."""
        return all(mine >= theirs for mine, theirs in zip(self.heads, other.heads, strict=True)) and all(
            mine >= theirs for mine, theirs in zip(self.neurons, other.neurons, strict=True)
        )

    def of(self, layer: int, units: LayerUnits) -> list[tuple[str, int, int]]:
        """Each prunable linear of a layer as ``(path, axis, rows or columns kept)``."""
        neurons = {*units.neuron_outputs, units.neuron_input}
        return [
            (path, axis, size * (self.neurons[layer] if path in neurons else self.heads[layer]))
            for path, axis, size in units.slices()
        ]


def prunable_parameters(config: Config, heads: int, neurons: int) -> int:
    """Weights and biases that ``heads`` heads and ``neurons`` neurons take, whichever layers they are in."""
    units = layers_of(config)[0]
    outputs, hidden = len(units.head_outputs), units.hidden_size
    per_head = units.head_size * (outputs * (hidden + 1) + hidden)
    per_neuron = len(units.neuron_outputs) * (hidden + 1) + hidden
    return heads * per_head + neurons * per_neuron


def count_units(layers: Sequence[LayerUnits]) -> tuple[int, int]:
    """Heads and neurons of a whole teacher."""
    return sum(units.num_heads for units in layers), sum(units.num_neurons for units in layers)
