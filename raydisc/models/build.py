"""Dense models at given widths: built empty, filled from a state dict, cut from a wider one."""

from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.models.attention import SDPA_OR_NOTHING
from raydisc.models.task_heads import model_class, put_weights
from raydisc.models.widths import Widths
from raydisc.tensors.lazy_state import PartState, State, Taking


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """A Hugging Face configuration from its ``to_dict()``."""
    settings = {name: value for name, value in values.items() if name not in {"model_type", "transformers_version"}}
    return AutoConfig.for_model(values["model_type"], **settings)


def build(config: Config, widths: Widths) -> nn.Module:
    """A model whose layers have these widths; its weights are not yet meaningful."""
    asked = config._attn_implementation
    attention = SDPA_OR_NOTHING if asked in (None, "sdpa") else asked
    with no_init_weights():
        model: nn.Module = model_class(config).from_config(copy(config), attn_implementation=attention)
    cast(PreTrainedModel, model).tie_weights()  # which is part of the initialisation
    _resize(model, config, widths)
    return model


def _resize(model: nn.Module, config: Config, widths: Widths) -> None:
    for index, units in enumerate(layers_of(config)):
        for carrier, kept in widths.of(index, units):
            linear = cast(nn.Linear, model.get_submodule(carrier.path))
            weight, bias = linear.weight, linear.bias
            linear.weight = nn.Parameter(carrier.first(weight.detach(), kept).clone())
            if carrier.axis == 0 and bias is not None:
                linear.bias = nn.Parameter(carrier.first(bias.detach(), kept).clone())
            linear.out_features, linear.in_features = linear.weight.shape


def load_frozen(config: Config, widths: Widths, state: State) -> nn.Module:
    """A model in evaluation mode whose parameters alias ``state``: no private copy, never to be trained."""
    model = build(config, widths)
    put_weights(model, state, assign=True)
    return model.requires_grad_(False).eval()


def load_trainable(config: Config, widths: Widths, state: State) -> nn.Module:
    """A model with its own copy of ``state``."""
    model = build(config, widths)
    put_weights(model, state)
    return model


def compute_twice(model: nn.Module) -> None:
    """Have layers compute their activations again in the backward instead of keeping them."""
    cast(PreTrainedModel, model).activation_checkpointing_enable({"use_reentrant": False})


def cut(state: State, config: Config, widths: Widths) -> State:
    """The weights of the first units of every layer: a narrower nested model's state dict.

    ``state`` must be ordered by importance and at least as wide. Tensors are cut as they are asked for; they are
    contiguous copies where that needs one and the same memory elsewhere.
    """
    takings: dict[str, list[Taking]] = {}
    for index, units in enumerate(layers_of(config)):
        for carrier, kept in widths.of(index, units):
            taking = partial(carrier.first, units=kept)
            takings.setdefault(f"{carrier.path}.weight", []).append(taking)
            if carrier.axis == 0 and f"{carrier.path}.bias" in state:
                takings.setdefault(f"{carrier.path}.bias", []).append(taking)
    return PartState(state, takings)
