"""Dense models of a structure: built empty, or filled from weights."""

import json
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import family_named
from raydisc.models.attention import SDPA_OR_NOTHING
from raydisc.models.structure import Structure
from raydisc.models.task_heads import model_class, put_weights
from raydisc.tensors.lazy_state import State


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Return a Hugging Face configuration from its ``to_dict()``."""
    family_named(values["model_type"])
    settings = {name: value for name, value in values.items() if name not in {"model_type", "transformers_version"}}
    return AutoConfig.for_model(values["model_type"], **settings)


def config_from_folder(folder: Path, trust_remote_code: bool = False) -> Config:
    """Read the Hugging Face configuration of a model in a folder.

    The adapter of its family is imported first, since the configuration may be of a class that the adapter's package
    registers with transformers.

    Args:
        folder: The folder.
        trust_remote_code: Whether code that lies beside the configuration may run.

    Raises:
        InputError: The family has no adapter.
    """
    written = json.loads((folder / "config.json").read_text())
    if isinstance(written, dict) and isinstance(written.get("model_type"), str):
        family_named(written["model_type"])
    return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def build(config: Config, structure: Structure) -> nn.Module:
    """Return a model of a structure; its weights are not yet meaningful.

    Args:
        config: The configuration of the teacher.
        structure: The parts of the teacher that the model keeps.
    """
    asked = config._attn_implementation
    attention = SDPA_OR_NOTHING if asked in (None, "sdpa") else asked
    own = structure.model_config(config)
    with no_init_weights():
        model: nn.Module = model_class(own).from_config(copy(own), attn_implementation=attention)
    cast(PreTrainedModel, model).tie_weights()  # which is part of the initialisation
    structure.shape(model, config)
    return model


def load_frozen(config: Config, structure: Structure, state: State) -> nn.Module:
    """Return a model in evaluation mode that must never be trained: its parameters alias ``state``, without a copy."""
    model = build(config, structure)
    put_weights(model, state, assign=True)
    return model.requires_grad_(False).eval()


def load_trainable(config: Config, structure: Structure, state: State) -> nn.Module:
    """Return a model with its own copy of ``state``."""
    model = build(config, structure)
    put_weights(model, state)
    return model


def compute_twice(model: nn.Module) -> None:
    """Have layers compute their activations again in the backward instead of keeping them.

    Raises:
        InputError: The model's code does not support it.
    """
    whole = cast(PreTrainedModel, model)
    if not whole.supports_gradient_checkpointing:
        raise InputError(
            f"resources.checkpointing: {type(model).__name__} cannot compute its activations again; set it to false"
        )
    whole.activation_checkpointing_enable({"use_reentrant": False})
