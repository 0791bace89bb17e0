"""Encoders: BERT and what is built like it."""

from dataclasses import dataclass

from raydisc.models.family import Config, Head, Mask
from raydisc.models.units import Carrier, LayerUnits, Units


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

    def head(self, config: Config) -> Head:
        """Its linears read the first token."""
        return Head()

    def mask(self, config: Config) -> Mask:
        """Every token attends to every other, so that one mask does for all layers."""
        return "additive"

    def fit(self, config: Config, pad_id: int | None) -> None:
        """The first token is the row's, wherever padding begins."""

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

ENCODERS = (_bert_like("bert"), _bert_like("roberta"), _DISTILBERT)
"""Every encoder that has an adapter."""
