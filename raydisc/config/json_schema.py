"""The JSON Schema of experiment files, for editors and for programs that write such files."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig, options_by_name

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, including the short forms that a file may use.

    A file that conforms to the schema may still be refused, because relations between settings, the data and the
    teacher are checked by ``raydisc validate``.

    Example:
        >>> schema = experiment_schema()
        >>> schema["$defs"]["GridConfig"]["properties"]["allocation"]["enum"]
        ['global', 'uniform']
    """
    mode: JsonSchemaMode = "validation"
    schedules = options_by_name()
    models: list[type[BaseModel]] = [Experiment, *schedules.values()]
    references, schema = models_json_schema([(model, mode) for model in models], title="raydisc experiment file")
    options = {name: references[model, mode] for name, model in schedules.items()}
    bare = [
        name
        for name, model in schedules.items()
        if not any(field.is_required() for field in model.model_fields.values())
    ]
    sections = schema["$defs"]
    sections[ScheduleConfig.__name__] = _schedule(options, bare, ScheduleConfig.__doc__ or "")
    for section in sections.values():
        if "description" in section:
            section["description"] = _without_examples(section["description"])
    for size in sections["StudentConfig"]["properties"].values():
        [one_for_each, null] = size["anyOf"]
        size["anyOf"] = [one_for_each["items"], one_for_each, null]
    return {"$schema": _DIALECT, **references[Experiment, mode], **schema}


def _without_examples(docstring: str) -> str:
    """Return the sentences of a docstring without its examples, which are for readers of the code."""
    return re.split(r"\n\s*Examples?:\n", docstring)[0].rstrip()


def _schedule(options: Mapping[str, Any], bare: list[str], description: str) -> dict[str, Any]:
    """Return the schema of one entry of ``schedules``: a name, or one name with its options."""
    properties = {name: {"anyOf": [one, {"type": "null"}]} if name in bare else one for name, one in options.items()}
    with_options = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"description": description, "anyOf": [{"enum": bare}, with_options]}
