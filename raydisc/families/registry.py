"""The families that have an adapter."""

from raydisc.errors import InputError
from raydisc.families.base import Config, Family
from raydisc.families.decoders import DECODERS
from raydisc.families.encoders import ENCODERS
from raydisc.families.enct5 import T5_ENCODERS
from raydisc.families.units import LayerUnits

FAMILIES: dict[str, Family] = {family.model_type: family for family in (*ENCODERS, *DECODERS, *T5_ENCODERS)}
"""Every family that has an adapter, by the ``model_type`` of its configuration."""


def family_of(config: Config) -> Family:
    """The adapter of a model's family.

    Raises:
        InputError: no adapter knows this ``model_type``.
    """
    return family_named(config.model_type)


def family_named(model_type: str) -> Family:
    """The adapter of a ``model_type``.

    Raises:
        InputError: no adapter knows it.
    """
    family = FAMILIES.get(model_type)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise InputError(
            f"teacher.model: no adapter for the family '{model_type}'; families that raydisc can prune: {known}"
        )
    return family


def layers_of(config: Config) -> tuple[LayerUnits, ...]:
    """The units of every layer of a model with this configuration.

    Raises:
        InputError: no adapter knows this family.
    """
    return family_of(config).layers(config)
