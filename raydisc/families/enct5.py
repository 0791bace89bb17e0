"""EncT5: T5's encoder with a decoder of one layer that reads it for a classifier (arXiv 2110.08426).

The decoder is asked with one prompt vector, attends to the encoder's output, and a linear reads its answer. It takes an
ordinary checkpoint of T5, T5 v1.1 or mT5: the encoder, the first decoder layer with the decoder's last norm, and the
embedding of the decoder's start token as the prompt. MiniDisc (arXiv 2205.14570) compresses such models.

A token classifier leaves the decoder out: the linear reads each token's last hidden state of the encoder, which has
seen the whole row from both sides. The prompt gathers a row into one vector, of which there is no need here, and a
decoder layer with a query for each token would compute more than a layer of the encoder and, since it is never pruned,
most of what a small student computes.

The units are the encoder's: its heads and neurons. The decoder layer computes little, for one vector of each row; it
belongs to the classifier, is copied whole into every student and counts as no unit.

Shape letters: B rows, S tokens, D hidden size, H heads, d head size.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn
from transformers import initialization
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.t5.modeling_t5 import T5Attention, T5PreTrainedModel, T5Stack, eager_attention_forward

from raydisc.families.base import Config, Family, Head
from raydisc.families.units import LayerUnits, PrunableLinear, Units


class OrderedAttention(T5Attention):
    """Self-attention of the encoder whose heads may be fewer than T5's, and in an order of their own.

    All layers share the position bias that the first one computes for each of T5's heads.

    Attributes:
        head_order: T5's number of each head of this layer ``[H]``; the heads that are left are the first of them.
    """

    head_order: torch.Tensor

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: None = None,
        position_bias: torch.Tensor | None = None,
        past_key_values: None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Attend within ``hidden_states`` ``[B, S, D]``.

        Returns:
            ``[B, S, D]``; the bias of all of T5's heads ``[1, H, S, S]``, for the next layer; the attention's weights.
        """
        shape = hidden_states.shape[:-1]
        query, key, value = (
            project(hidden_states).view(*shape, -1, self.key_value_proj_dim).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        if position_bias is None:
            position_bias = self._bias(shape[1])
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attend(
            self,
            query,
            key,
            value,
            mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            position_bias=position_bias.index_select(1, self.head_order[: query.shape[1]]),
            **kwargs,
        )
        return self.o(attended.reshape(*shape, -1)), position_bias, weights

    def _bias(self, length: int) -> torch.Tensor:
        bias: torch.Tensor = self.compute_bias(length, length)  # type: ignore[no-untyped-call]
        return bias


class EncT5PreTrainedModel(T5PreTrainedModel):
    """The base class of the parts of EncT5, which initialises weights that a checkpoint does not have."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^lm_head\.", r"^encoder\.embed_tokens\."]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise weights that a checkpoint does not have, as T5's are."""
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        factor, config = self.config.initializer_factor, self.config
        if isinstance(module, OrderedAttention):
            initialization.copy_(module.head_order, torch.arange(config.num_heads))
        elif isinstance(module, EncT5Model):
            initialization.normal_(module.shared.weight, mean=0.0, std=factor)
            if module.decoder is not None:
                start = getattr(config, "decoder_start_token_id", None) or config.pad_token_id or 0
                initialization.copy_(module.prompt, module.shared.weight[start])
        elif isinstance(module, EncT5ForSequenceClassification | EncT5ForTokenClassification):
            initialization.normal_(module.classifier.weight, mean=0.0, std=factor * config.d_model**-0.5)
            initialization.zeros_(module.classifier.bias)


class EncT5Stack(EncT5PreTrainedModel, T5Stack):
    """T5's encoder or decoder; it is given embedded tokens, so that it needs no embedding of its own."""

    def __init__(self, config: Config, is_decoder: bool, num_layers: int) -> None:
        """Build it with T5's or mT5's configuration."""
        part = deepcopy(config)
        part.is_decoder, part.num_layers, part.use_cache, part.vocab_size = is_decoder, num_layers, False, 1
        super().__init__(part)
        self.embed_tokens = None  # type: ignore[assignment]
        for index in range(0 if is_decoder else num_layers):
            attention = self.get_submodule(f"block.{index}.layer.0.SelfAttention")
            attention.__class__ = OrderedAttention
            attention.register_buffer("head_order", torch.arange(config.num_heads))


class EncT5Model(EncT5PreTrainedModel):
    """Word embedding, encoder, prompt and the decoder of one layer, named as in T5's checkpoints.

    Attributes:
        decoder: None, with no prompt either, where tokens are read from the encoder.
    """

    def __init__(self, config: Config, asks: bool = True) -> None:
        """Build it with T5's or mT5's configuration, with a decoder that asks or without."""
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        if asks:
            self.prompt = nn.Parameter(torch.zeros(config.d_model))
        self.encoder = EncT5Stack(config, is_decoder=False, num_layers=config.num_layers)
        self.decoder = EncT5Stack(config, is_decoder=True, num_layers=1) if asks else None
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embedding."""
        return self.shared

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """Encode, and ask once where there is a decoder.

        Args:
            input_ids: ``[B, S]``.
            attention_mask: Ones and zeros ``[B, S]``, or numbers that attention adds to its scores ``[B, 1, 1, S]``.
            kwargs: Arguments of the encoder.

        Returns:
            The decoder's answer ``[B, D]``, or the encoder's ``[B, S, D]``, as ``last_hidden_state``, with the
            encoder's hidden states.
        """
        encoded = self.encoder(inputs_embeds=self.shared(input_ids), attention_mask=attention_mask, **kwargs)
        if self.decoder is None:
            return BaseModelOutput(encoded.last_hidden_state, encoded.hidden_states)
        answer = self.decoder(
            inputs_embeds=self.prompt.repeat(len(input_ids), 1, 1),
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )
        return BaseModelOutput(answer.last_hidden_state[:, 0], encoded.hidden_states)


class EncT5Classifier(EncT5PreTrainedModel):
    """A linear layer on the last output of the encoder, or of the decoder that asks it.

    Attributes:
        asks: Whether a decoder asks the encoder.
        output: The class of what a forward returns.
    """

    asks: ClassVar[bool]
    output: ClassVar[type[SequenceClassifierOutput | TokenClassifierOutput]]

    def __init__(self, config: Config) -> None:
        """Build it with T5's or mT5's configuration."""
        super().__init__(config)
        self.transformer = EncT5Model(config, asks=self.asks)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_config(cls, config: Config, **kwargs: Any) -> Self:
        """Return a model with new weights, as the auto classes do."""
        model: Self = cls._from_config(config, **kwargs)  # type: ignore[no-untyped-call]
        return model

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embedding."""
        return self.transformer.shared

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | TokenClassifierOutput:
        """Return logits ``[B, labels]`` or ``[B, S, labels]`` and hidden states; T5 has no types of tokens."""
        found = self.transformer(input_ids, attention_mask, **kwargs)
        logits = self.classifier(self.dropout(found.last_hidden_state))
        return self.output(logits=logits, hidden_states=found.hidden_states)


class EncT5ForSequenceClassification(EncT5Classifier):
    """A classifier, or a regressor with one label, on the decoder's answer."""

    asks = True
    output = SequenceClassifierOutput


class EncT5ForTokenClassification(EncT5Classifier):
    """A classifier of every token, on the encoder's last hidden states."""

    asks = False
    output = TokenClassifierOutput


@dataclass(frozen=True)
class EncT5Family(Family):
    """T5, or a family with its configuration, as EncT5.

    Attributes:
        model_type: The ``model_type`` of its configurations.
    """

    model_type: str

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """Return the units of every layer of the encoder; T5's linears have no biases."""
        return tuple(_units(f"transformer.encoder.block.{index}.layer", config) for index in range(config.num_layers))

    def head(self, config: Config) -> Head:
        """Return the decoder layer: keys and values of every token for one query of each row."""
        cross = "transformer.decoder.block.0.layer.1.EncDecAttention"
        return Head(tokenwise=(f"{cross}.k", f"{cross}.v"), attended=config.num_heads * config.d_kv)

    def positions(self, config: Config) -> int | None:
        """Return None: attention knows distances, and those of any length."""
        return None

    def classifier(self) -> Any:
        """Return EncT5's own class, which transformers does not have."""
        return EncT5ForSequenceClassification

    def token_classifier(self) -> Any:
        """Return EncT5's own class, which transformers does not have."""
        return EncT5ForTokenClassification


def _units(layer: str, config: Config) -> LayerUnits:
    attention, feed_forward = f"{layer}.0.SelfAttention", f"{layer}.1.DenseReluDense"
    into = ("wi_0", "wi_1") if config.is_gated_act else ("wi",)
    return LayerUnits(
        heads=Units(
            count=config.num_heads,
            outputs=tuple(PrunableLinear(f"{attention}.{name}", 0, config.d_kv, has_bias=False) for name in "qkv"),
            input=PrunableLinear(f"{attention}.o", 1, config.d_kv),
            buffers=(f"{attention}.head_order",),
        ),
        neurons=Units(
            count=config.d_ff,
            outputs=tuple(PrunableLinear(f"{feed_forward}.{name}", 0, 1, has_bias=False) for name in into),
            input=PrunableLinear(f"{feed_forward}.wo", 1, 1),
        ),
        hidden_size=config.d_model,
    )


T5 = EncT5Family("t5")
MT5 = EncT5Family("mt5")
