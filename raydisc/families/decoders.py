"""Decoders with a classification head on each row's last token."""

from copy import deepcopy
from dataclasses import dataclass

from raydisc.errors import InputError
from raydisc.families.base import Config, Family, Head, Mask
from raydisc.families.units import LayerUnits, PrunableLinear, Units


@dataclass(frozen=True)
class DecoderFamily(Family):
    """A decoder built like Llama.

    Its units are key/value heads, each with the query heads that share it, and neurons of a gated feed-forward, each a
    row of the gate and a row of the other projection. A head's size does not depend on the number of heads; norms of
    queries and keys are those of one head, so that they stay whole.

    Attributes:
        model_type: The ``model_type`` of its configurations.
        biased: Whether query, key and value have biases even where the configuration does not ask for them.
        predicts_next: Whether the family has language models; every decoder of transformers has.
    """

    model_type: str
    biased: bool = False
    predicts_next: bool = True

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """Return the units of every layer.

        Raises:
            InputError: The key/value heads cannot share out the query heads evenly.
        """
        queries, groups = config.num_attention_heads, config.num_key_value_heads
        if queries % groups:
            raise InputError(
                f"teacher: num_attention_heads must be a multiple of num_key_value_heads ({groups}), but is {queries}"
            )
        return tuple(self._units(f"model.layers.{index}", config) for index in range(config.num_hidden_layers))

    def head(self, config: Config) -> Head:
        """Return a head that reads every token; only the last token's logits are used."""
        return Head(tokenwise=("score",))

    def mask(self, config: Config) -> Mask:
        """Return ``none`` for a causal model, whose tokens never see the padding behind them."""
        both_ways = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
        return "tokens" if both_ways else "none"

    def fit(self, config: Config, pad_id: int | None) -> None:
        """Write the padding token, which marks the end of a row; keys are not kept, since nothing is generated.

        Raises:
            InputError: There is no padding token.
        """
        if pad_id is None:
            raise InputError(
                f"teacher: its tokenizer has no padding token, by which a '{self.model_type}' classifier finds the end "
                "of each text; set one (tokenizer.pad_token = ...) and save the tokenizer again"
            )
        config.pad_token_id, config.use_cache = pad_id, False

    def plain(self, config: Config, heads: int, neurons: int) -> Config | None:
        """Return a configuration with fewer heads of the same size and fewer neurons."""
        shared = config.num_attention_heads // config.num_key_value_heads
        narrow = deepcopy(config)
        narrow.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        narrow.num_attention_heads, narrow.num_key_value_heads = shared * heads, heads
        narrow.intermediate_size = neurons
        return narrow

    def _units(self, layer: str, config: Config) -> LayerUnits:
        groups = config.num_key_value_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shared = size * (config.num_attention_heads // groups)
        attention_bias = self.biased or bool(getattr(config, "attention_bias", False))
        gate_bias = bool(getattr(config, "mlp_bias", False))
        return LayerUnits(
            heads=Units(
                count=groups,
                outputs=(
                    PrunableLinear(f"{layer}.self_attn.q_proj", 0, shared, has_bias=attention_bias),
                    PrunableLinear(f"{layer}.self_attn.k_proj", 0, size, has_bias=attention_bias),
                    PrunableLinear(f"{layer}.self_attn.v_proj", 0, size, has_bias=attention_bias),
                ),
                input=PrunableLinear(f"{layer}.self_attn.o_proj", 1, shared),
            ),
            neurons=Units(
                count=config.intermediate_size,
                outputs=(
                    PrunableLinear(f"{layer}.mlp.gate_proj", 0, 1, has_bias=gate_bias),
                    PrunableLinear(f"{layer}.mlp.up_proj", 0, 1, has_bias=gate_bias),
                ),
                input=PrunableLinear(f"{layer}.mlp.down_proj", 1, 1),
            ),
            hidden_size=config.hidden_size,
        )


LLAMA = DecoderFamily("llama")
MISTRAL = DecoderFamily("mistral")
QWEN2 = DecoderFamily("qwen2", biased=True)
QWEN3 = DecoderFamily("qwen3")
GEMMA = DecoderFamily("gemma")
GEMMA3_TEXT = DecoderFamily("gemma3_text")
