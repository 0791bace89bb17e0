"""The words of an experiment file: every setting's dotted name, its default, and what it takes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import options_by_name

LIMITS = {
    "minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<", "pattern": "like",
    "minLength": "length >=", "maxLength": "length <=", "minItems": "items >=", "maxItems": "items <=",
    "minProperties": "keys >=",
}  # fmt: skip


def settings() -> dict[str, str]:
    """Return each setting's type and default by its dotted name; options of schedules are below ``schedules.NAME``."""
    found = dict(_settings(Experiment.model_json_schema()))
    for name, options in options_by_name().items():
        found |= _settings(options.model_json_schema(), f"schedules.{name}.")
    return found


def _settings(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    sections = schema.get("$defs", {})
    pending = [(prefix, schema)]
    while pending:
        above, section = pending.pop(0)
        for name, field in section.get("properties", {}).items():
            default = f"default {json.dumps(field['default'])}" if "default" in field else "required"
            takes = _takes(field)
            yield above + name, takes if takes == "section" and default != "required" else f"{takes}; {default}"
            if name != "schedules":  # whose options are listed by themselves
                members = [field, *field.get("anyOf", ()), *field.get("oneOf", ())]
                inside = [member["$ref"].rsplit("/", 1)[1] for member in members if "$ref" in member]
                pending += [(f"{above}{name}.", sections[found]) for found in inside]


def _takes(schema: Mapping[str, Any]) -> str:
    """Return the type of a setting in a few words that do not depend on the names of classes."""
    members = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if members:
        return " or ".join(sorted(map(_takes, members)))
    if "$ref" in schema:
        return "section"
    words = sorted(json.dumps(word) for word in ([schema["const"]] if "const" in schema else schema.get("enum", ())))
    text = " or ".join(words) or str(schema.get("type", "anything"))
    if "items" in schema:
        text += f" of ({_takes(schema['items'])})"
    if "propertyNames" in schema:
        text += f" with keys ({_takes(schema['propertyNames'])})"
    if isinstance(schema.get("additionalProperties"), Mapping):
        text += f" to ({_takes(schema['additionalProperties'])})"
    limits = [f"{sign} {schema[limit]}" for limit, sign in LIMITS.items() if limit in schema]
    return ", ".join([text, *limits])
