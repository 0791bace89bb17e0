"""Encoders: BERT and what is built like it."""

from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from raydisc.families.base import Config, Head, Mask
from raydisc.families.units import Carrier, LayerUnits, Units


@dataclass(frozen=True)
class EncoderFamily:
    """An encoder whose layers are alike: paths are written once with the layer's number left open.

    Attributes:
        model_type: of its configurations.
        layer: path of a layer.
        head_outputs: paths inside it of query, key and value.
        head_input: of attention's output.
        neuron_outputs: of the linears into the feed-forward.
        neuron_input: of the one out of it.
        fused: blocks in each of ``head_outputs`` and of ``neuron_outputs``.
        padding: what its models are given of padding.
    """

    model_type: str
    layer: str
    head_outputs: tuple[str, ...]
    head_input: str
    neuron_outputs: tuple[str, ...]
    neuron_input: str
    fused: tuple[int, int] = (1, 1)
    padding: Mask = "additive"

    @property
    def predicts_next(self) -> bool:
        """No token is predicted from those before it alone."""
        return False

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """The units of every layer; sizes come from the configuration's common attribute names."""
        neurons = getattr(config, "intermediate_size", None) or config.hidden_dim
        return tuple(
            self._units(self.layer.format(index), config, neurons) for index in range(config.num_hidden_layers)
        )

    def head(self, config: Config) -> Head:
        """Its linears read one vector for each row."""
        return Head()

    def mask(self, config: Config) -> Mask:
        """One mask does for all layers where every token attends to every other."""
        return self.padding

    def fit(self, config: Config, pad_id: int | None) -> None:
        """Nothing: its classifiers read the first token, or the mean of those that the mask leaves."""

    def plain(self, config: Config, heads: int, neurons: int) -> Config | None:
        """None: a head's size follows from the number of heads."""
        return None

    def classifier(self) -> Any:
        """The one of transformers."""
        return AutoModelForSequenceClassification

    def token_classifier(self) -> Any:
        """The one of transformers."""
        return AutoModelForTokenClassification

    def _units(self, layer: str, config: Config, neurons: int) -> LayerUnits:
        size = config.hidden_size // config.num_attention_heads
        return LayerUnits(
            heads=Units(
                count=config.num_attention_heads,
                outputs=tuple(
                    Carrier(f"{layer}.{path}", 0, size, self.fused[0], getattr(config, "attention_bias", True))
                    for path in self.head_outputs
                ),
                input=Carrier(f"{layer}.{self.head_input}", 1, size),
            ),
            neurons=Units(
                count=neurons,
                outputs=tuple(
                    Carrier(f"{layer}.{path}", 0, 1, self.fused[1], getattr(config, "mlp_bias", True))
                    for path in self.neuron_outputs
                ),
                input=Carrier(f"{layer}.{self.neuron_input}", 1, 1),
            ),
            hidden_size=config.hidden_size,
        )


def _bert_like(model_type: str, prefix: str) -> EncoderFamily:
    return EncoderFamily(
        model_type=model_type,
        layer=prefix + ".encoder.layer.{}",
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

_MODERNBERT = EncoderFamily(
    model_type="modernbert",
    layer="model.layers.{}",
    head_outputs=("attn.Wqkv",),
    head_input="attn.Wo",
    neuron_outputs=("mlp.Wi",),
    neuron_input="mlp.Wo",
    fused=(3, 2),
    padding="tokens",
)

ENCODERS = (
    _bert_like("bert", "bert"),
    _bert_like("roberta", "roberta"),
    _bert_like("xlm-roberta", "roberta"),
    _DISTILBERT,
    _MODERNBERT,
)
"""Every encoder that has an adapter."""
