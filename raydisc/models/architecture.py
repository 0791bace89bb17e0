"""Teachers from scratch: a configuration without weights."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig

from raydisc.errors import InputError, reason_of
from raydisc.families.base import Config
from raydisc.families.registry import FAMILIES, family_named, family_of
from raydisc.models.task_heads import model_class, suit
from raydisc.registry import nearest
from raydisc.tasks.kinds.base import TaskKind

_SIZES = ("num_", "n_", "d_", "head_dim", "hidden_size", "intermediate_size", "hidden_dim", "dim", "max_position")
"""Beginnings of the names of settings that are sizes or counts."""


def from_architecture(
    architecture: dict[str, Any], vocab_size: int, kind: TaskKind, num_labels: int, pad_id: int | None
) -> Config:
    """Return the configuration of a teacher that is trained from scratch.

    Args:
        architecture: The settings from the experiment file, ``model_type`` among them.
        vocab_size: The number of tokens of its tokenizer.
        kind: The kind of task.
        num_labels: The number of outputs that the task needs.
        pad_id: The padding token; None if the tokenizer does not have one.

    Raises:
        InputError: The ``model_type`` or a setting is unknown, or a value is impossible.
    """
    settings = {name: value for name, value in architecture.items() if name != "model_type"}
    model_type = str(architecture.get("model_type"))
    if model_type in FAMILIES:
        family_named(model_type)
    if model_type not in CONFIG_MAPPING:
        hint = nearest(model_type, FAMILIES.names())
        raise InputError(f"teacher.architecture: model_type '{model_type}' is unknown to transformers{hint}")
    known = AutoConfig.for_model(model_type)
    unnamed = family_of(known).unnamed_settings
    for name in settings:
        if name == "vocab_size":
            raise InputError("teacher.architecture: vocab_size is the tokenizer's; leave it out")
        if name not in unnamed and not hasattr(known, name):
            raise InputError(f"teacher.architecture: unknown key '{name}'{nearest(name, known.to_dict())}")
    for name, value in settings.items():
        if name.startswith(_SIZES) and isinstance(value, int | float) and value < 1:
            raise InputError(f"teacher.architecture: {name} is {value}, but must be at least 1")
    try:
        config = AutoConfig.for_model(model_type, **settings, vocab_size=vocab_size)
    except Exception as error:
        raise InputError(f"teacher.architecture: {reason_of(error)}") from error
    if getattr(config, "head_dim", None) is None and config.hidden_size % config.num_attention_heads:
        raise InputError(
            f"teacher.architecture: {config.hidden_size} hidden units cannot be shared by "
            f"{config.num_attention_heads} heads; give a multiple"
        )
    family_of(config).layers(config)  # refuses impossible sizes
    if config.pad_token_id is not None and config.pad_token_id >= vocab_size:
        config.pad_token_id = pad_id  # the default is another vocabulary's
    suit(config, kind, num_labels, pad_id)
    try:
        with torch.device("meta"):
            model_class(config).from_config(config)
    except Exception as error:
        raise InputError(f"teacher.architecture: transformers cannot build it ({reason_of(error)})") from error
    return config
