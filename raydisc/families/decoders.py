"""Decoders with a classification head on each row's last token."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from raydisc.errors import InputError
from raydisc.families.base import Config, Head, Mask
from raydisc.families.units import Carrier, LayerUnits, Units


@dataclass(frozen=True)
class DecoderFamily:
    """A decoder built like Llama.

    Its units are key/value heads, each with the query heads that share it, and neurons of a gated feed-forward, each a
    row of the gate and a row of the other projection. A head's size does not depend on how many there are; norms of
    queries and keys are those of one head, so that they stay whole.

    Attributes:
        model_type: of its configurations.
        biased: query, key and value have biases whatever the configuration says.
    """

    model_type: str
    biased: bool = False

    @property
    def predicts_next(self) -> bool:
        """Each has one."""
        return True

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """The units of every layer.

        Raises:
            InputError: query heads that key/value heads cannot share out evenly.
        """
        queries, groups = config.num_attention_heads, config.num_key_value_heads
        if queries % groups:
            raise InputError(
                f"teacher: num_attention_heads is {queries}, which is no multiple of num_key_value_heads ({groups})"
            )
        return tuple(self._units(f"model.layers.{index}", config) for index in range(config.num_hidden_layers))

    def head(self, config: Config) -> Head:
        """The classifier reads every token, of which the last one's logits are taken."""
        return Head(tokenwise=("score",))

    def mask(self, config: Config) -> Mask:
        """A causal model's tokens never see the padding behind them."""
        both_ways = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
        return "tokens" if both_ways else "none"

    def fit(self, config: Config, pad_id: int | None) -> None:
        """The padding token says where a row ends. Nothing is generated, so that no keys need to be kept.

        Raises:
            InputError: there is none.
        """
        if pad_id is None:
            raise InputError(
                f"teacher: its tokenizer has no padding token, by which a '{self.model_type}' classifier finds the end "
                "of each text; set one (tokenizer.pad_token = ...) and save the tokenizer again"
            )
        config.pad_token_id, config.use_cache = pad_id, False

    def plain(self, config: Config, heads: int, neurons: int) -> Config | None:
        """Fewer heads of the same size, and fewer neurons."""
        shared = config.num_attention_heads // config.num_key_value_heads
        narrow = deepcopy(config)
        narrow.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        narrow.num_attention_heads, narrow.num_key_value_heads = shared * heads, heads
        narrow.intermediate_size = neurons
        return narrow

    def classifier(self) -> Any:
        """The one of transformers."""
        return AutoModelForSequenceClassification

    def token_classifier(self) -> Any:
        """The one of transformers."""
        return AutoModelForTokenClassification

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
                    Carrier(f"{layer}.self_attn.q_proj", 0, shared, has_bias=attention_bias),
                    Carrier(f"{layer}.self_attn.k_proj", 0, size, has_bias=attention_bias),
                    Carrier(f"{layer}.self_attn.v_proj", 0, size, has_bias=attention_bias),
                ),
                input=Carrier(f"{layer}.self_attn.o_proj", 1, shared),
            ),
            neurons=Units(
                count=config.intermediate_size,
                outputs=(
                    Carrier(f"{layer}.mlp.gate_proj", 0, 1, has_bias=gate_bias),
                    Carrier(f"{layer}.mlp.up_proj", 0, 1, has_bias=gate_bias),
                ),
                input=Carrier(f"{layer}.mlp.down_proj", 1, 1),
            ),
            hidden_size=config.hidden_size,
        )


DECODERS = (
    DecoderFamily("llama"),
    DecoderFamily("mistral"),
    DecoderFamily("qwen2", biased=True),
    DecoderFamily("qwen3"),
    DecoderFamily("gemma"),
    DecoderFamily("gemma3_text"),
)
"""Every decoder that has an adapter."""
