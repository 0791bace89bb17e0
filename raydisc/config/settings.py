"""Settings of an experiment that a single trial may have for itself, by their dotted names."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from raydisc.config.sections import DistillationConfig, OnceForAllConfig, Section
from raydisc.config.yaml_file import explain

SETTABLE: Mapping[str, type[Section]] = {"once_for_all": OnceForAllConfig, "distillation": DistillationConfig}
"""The sections whose settings a trial may have for itself: all trials share what comes before these stages."""


def may_be_set(place: str) -> bool:
    """Whether a trial may have a setting for itself.

    Args:
        place: The dotted name, such as ``distillation.lr``, or ``distillation.losses.hidden_mse`` for one weight.

    Example:
        >>> may_be_set("distillation.losses.hidden_mse"), may_be_set("teacher.seed")
        (True, False)
    """
    section, _, rest = place.partition(".")
    field, _, key = rest.partition(".")
    return section in SETTABLE and field in SETTABLE[section].model_fields and (not key or _is_mapping(section, field))


def settable_names() -> str:
    """Return the sections whose settings a trial may have, for a message."""
    return " or ".join(SETTABLE)


def takes_whole_numbers_alone(place: str) -> bool:
    """Whether a setting takes whole numbers and no fractions."""
    section, _, rest = place.partition(".")
    kinds = _kinds(SETTABLE[section].model_fields[rest.partition(".")[0]].annotation)
    return int in kinds and float not in kinds and dict not in kinds


def with_setting(section: Section, name: str, value: Any) -> Section:
    """Return a section with another value of one setting.

    Args:
        section: The section.
        name: The setting's name in it; ``losses.hidden_mse`` is one entry of ``losses``.
        value: Its value.

    Raises:
        ValueError: The setting cannot have the value; the message is one sentence with the setting's name.
    """
    changed = section.model_dump()
    field, _, key = name.partition(".")
    changed[field] = {**changed[field], key: value} if key else value
    try:
        return type(section).model_validate(changed)
    except ValidationError as error:
        raise ValueError(explain(error, changed)) from error


def _is_mapping(section: str, field: str) -> bool:
    return dict in _kinds(SETTABLE[section].model_fields[field].annotation)


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation admits, that of an ``Annotated`` union included."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    if hasattr(annotation, "__metadata__"):
        return _kinds(annotation.__origin__)
    return {origin or annotation}
