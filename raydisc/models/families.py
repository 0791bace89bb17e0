"""Family adapters: where the prunable units of a Hugging Face model are, and nothing else."""

from dataclasses import dataclass
from typing import Any, Protocol

from raydisc.errors import InputError
from raydisc.models.units import Carrier, LayerUnits, Units

Config = Any
"""A Hugging Face configuration object."""


class Family(Protocol):
    """What an adapter says of a family of models."""

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the family's configurations."""
        ...

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """The units of every layer of a model with this configuration, first layer first."""
        ...


@dataclass(frozen=True)
class EncoderFamily:
    """An encoder whose layers are alike: paths are written once with the layer's number left open."""

    model_type: str
    layer: str
    head_outputs: tuple[str, ...]
    head_input: str
    neuron_outputs: tuple[str, ...]
    neuron_input: str

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """The units of every layer; sizes come from the configuration's common attribute names."""
        neurons = getattr(config, "intermediate_size", None) or config.hidden_dim
        return tuple(
            self._units(self.layer.format(index), config, neurons) for index in range(config.num_hidden_layers)
        )

    def _units(self, layer: str, config: Config, neurons: int) -> LayerUnits:
        size = config.hidden_size // config.num_attention_heads
        return LayerUnits(
            heads=Units(
                count=config.num_attention_heads,
                outputs=tuple(Carrier(f"{layer}.{path}", 0, size) for path in self.head_outputs),
                input=Carrier(f"{layer}.{self.head_input}", 1, size),
            ),
            neurons=Units(
                count=neurons,
                outputs=tuple(Carrier(f"{layer}.{path}", 0, 1) for path in self.neuron_outputs),
                input=Carrier(f"{layer}.{self.neuron_input}", 1, 1),
            ),
            hidden_size=config.hidden_size,
        )


def _bert_like(model_type: str) -> EncoderFamily:
    return EncoderFamily(
        model_type=model_type,
        layer=model_type + ".encoder.layer.{}",
        head_outputs=("attention.self.query", "attention.self.key", "attention.self.value"),
        head_input="attention.output.dense",
        neuron_outputs=("intermediate.dense",),
        neuron_input="output.dense",
    )


_DISTILBERT = EncoderFamily(
    model_type="distilbert",
    layer="distilbert.transformer.layer.{}",
    head_outputs=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    head_input="attention.out_lin",
    neuron_outputs=("ffn.lin1",),
    neuron_input="ffn.lin2",
)

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (_bert_like("bert"), _bert_like("roberta"), _DISTILBERT)
}
"""Every family that has an adapter, by the ``model_type`` of its configuration."""


def family_of(config: Config) -> Family:
    """The adapter of a model's family.

    Raises:
        InputError: no adapter knows this ``model_type``.
    """
    return family_named(config.model_type)


def family_named(model_type: str) -> Family:
    """The adapter of a ``model_type``.

    Raises:
        InputError: no adapter knows it.
    """
    family = FAMILIES.get(model_type)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise InputError(
            f"teacher.model: no adapter for the family '{model_type}'; families that raydisc can prune: {known}"
        )
    return family


def layers_of(config: Config) -> tuple[LayerUnits, ...]:
    """The units of every layer of a model with this configuration.

    Raises:
        InputError: no adapter knows this family.
    """
    return family_of(config).layers(config)
