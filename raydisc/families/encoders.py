"""Encoders: BERT and what is built like it."""

from dataclasses import dataclass

from raydisc.families.base import Config, Family, Mask
from raydisc.families.units import LayerUnits, PrunableLinear, Units


@dataclass(frozen=True)
class EncoderFamily(Family):
    """An encoder whose layers are alike: paths are written once with the layer's number left open.

    Attributes:
        model_type: The ``model_type`` of its configurations.
        layer: Path of a layer, with ``{}`` for its number.
        head_outputs: Paths of query, key and value inside a layer.
        head_input: Path of the output of attention.
        neuron_outputs: Paths of the linears into the feed-forward.
        neuron_input: Path of the linear out of the feed-forward.
        fused: Blocks in each of ``head_outputs`` and in each of ``neuron_outputs``.
        padding: The form in which models receive padding.
        positions_after_padding: Whether the positions of tokens begin behind the number of the padding token.
    """

    model_type: str
    layer: str
    head_outputs: tuple[str, ...]
    head_input: str
    neuron_outputs: tuple[str, ...]
    neuron_input: str
    fused: tuple[int, int] = (1, 1)
    padding: Mask = "additive"
    positions_after_padding: bool = False

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """Return the units of every layer; sizes come from the common attribute names of configurations."""
        neurons = getattr(config, "intermediate_size", None) or config.hidden_dim
        return tuple(
            self._units(self.layer.format(index), config, neurons) for index in range(config.num_hidden_layers)
        )

    def mask(self, config: Config) -> Mask:
        """Return ``padding``."""
        return self.padding

    def positions(self, config: Config) -> int | None:
        """Return the number of positions that are left for tokens."""
        positions = super().positions(config)
        if positions is None or not self.positions_after_padding:
            return positions
        return positions - int(config.pad_token_id) - 1

    def _units(self, layer: str, config: Config, neurons: int) -> LayerUnits:
        size = config.hidden_size // config.num_attention_heads
        attention_bias, neuron_bias = getattr(config, "attention_bias", True), getattr(config, "mlp_bias", True)
        return LayerUnits(
            heads=Units(
                count=config.num_attention_heads,
                outputs=tuple(
                    PrunableLinear(f"{layer}.{path}", 0, size, self.fused[0], attention_bias)
                    for path in self.head_outputs
                ),
                input=PrunableLinear(f"{layer}.{self.head_input}", 1, size),
            ),
            neurons=Units(
                count=neurons,
                outputs=tuple(
                    PrunableLinear(f"{layer}.{path}", 0, 1, self.fused[1], neuron_bias) for path in self.neuron_outputs
                ),
                input=PrunableLinear(f"{layer}.{self.neuron_input}", 1, 1),
            ),
            hidden_size=config.hidden_size,
        )


def bert_like(model_type: str, prefix: str, positions_after_padding: bool = False) -> EncoderFamily:
    """Return the adapter of a family whose layers have BERT's names.

    Args:
        model_type: The ``model_type`` of its configurations.
        prefix: The name of the encoder in its classifiers.
        positions_after_padding: See ``EncoderFamily``.
    """
    return EncoderFamily(
        model_type=model_type,
        layer=prefix + ".encoder.layer.{}",
        head_outputs=("attention.self.query", "attention.self.key", "attention.self.value"),
        head_input="attention.output.dense",
        neuron_outputs=("intermediate.dense",),
        neuron_input="output.dense",
        positions_after_padding=positions_after_padding,
    )


BERT = bert_like("bert", "bert")
ROBERTA = bert_like("roberta", "roberta", positions_after_padding=True)
XLM_ROBERTA = bert_like("xlm-roberta", "roberta", positions_after_padding=True)

DISTILBERT = EncoderFamily(
    model_type="distilbert",
    layer="distilbert.transformer.layer.{}",
    head_outputs=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    head_input="attention.out_lin",
    neuron_outputs=("ffn.lin1",),
    neuron_input="ffn.lin2",
)

MODERNBERT = EncoderFamily(
    model_type="modernbert",
    layer="model.layers.{}",
    head_outputs=("attn.Wqkv",),
    head_input="attn.Wo",
    neuron_outputs=("mlp.Wi",),
    neuron_input="mlp.Wo",
    fused=(3, 2),
    padding="tokens",
)
