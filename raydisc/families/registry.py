"""The registry of the families of models that raydisc can prune.

Example:
    >>> FAMILIES.names()[:3]
    ('bert', 'roberta', 'xlm-roberta')
"""

from torch import nn

from raydisc.errors import InputError
from raydisc.families.base import Config, Family
from raydisc.families.units import LayerUnits
from raydisc.registry import Registry

FAMILIES: Registry[Family] = Registry(
    "raydisc.families",
    "family",
    Family,
    shipped={
        "bert": "raydisc.families.encoders:BERT",
        "roberta": "raydisc.families.encoders:ROBERTA",
        "xlm-roberta": "raydisc.families.encoders:XLM_ROBERTA",
        "distilbert": "raydisc.families.encoders:DISTILBERT",
        "modernbert": "raydisc.families.encoders:MODERNBERT",
        "llama": "raydisc.families.decoders:LLAMA",
        "mistral": "raydisc.families.decoders:MISTRAL",
        "qwen2": "raydisc.families.decoders:QWEN2",
        "qwen3": "raydisc.families.decoders:QWEN3",
        "gemma": "raydisc.families.decoders:GEMMA",
        "gemma3_text": "raydisc.families.decoders:GEMMA3_TEXT",
        "t5": "raydisc.families.enct5:T5",
        "mt5": "raydisc.families.enct5:MT5",
    },
    classes=False,
    key="model_type",
)
"""Every family that has an adapter, by the ``model_type`` of its configurations."""


def family_of(config: Config) -> Family:
    """Return the adapter of a model's family.

    Raises:
        InputError: No adapter has the configuration's ``model_type``.
    """
    return family_named(config.model_type)


def family_named(model_type: str) -> Family:
    """Return the adapter of a ``model_type``, importing it, so that transformers knows the classes of its models.

    Raises:
        InputError: No adapter has this ``model_type``.
    """
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES.names()))
        raise InputError(
            f"teacher.model: no adapter for the family '{model_type}'; families that raydisc can prune: {known}"
        )
    return FAMILIES.get(model_type)


def layers_in(model: nn.Module, config: Config) -> tuple[LayerUnits, ...]:
    """Return the units of the layers that a model has, which may be fewer than its teacher's.

    Args:
        model: The model.
        config: The configuration of the teacher.
    """
    held = {name for name, _ in model.named_modules()}
    return tuple(units for units in layers_of(config) if units.heads.input.path in held)


def layers_of(config: Config) -> tuple[LayerUnits, ...]:
    """Return the units of every layer of a model with this configuration.

    Raises:
        InputError: No adapter knows this family.
    """
    return family_of(config).layers(config)
