"""Pages that are generated from the code: the settings of an experiment file and the commands.

A page holds a line such as ``<!-- generated: settings -->``, which is replaced while the page is read.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sphinx.application import Sphinx

from raydisc.cli.parser import build_parser
from raydisc.config.json_schema import experiment_schema

PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)

_BOUNDS = {"exclusiveMinimum": "> ", "minimum": "≥ ", "exclusiveMaximum": "< ", "maximum": "≤ "}


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the replacement of the lines."""
    app.connect("source-read", lambda _, __, source: source.__setitem__(0, filled(source[0])))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def filled(page: str) -> str:
    """Return a page with its generated parts in place."""
    parts = {"settings": settings, "commands": commands}
    return PLACE.sub(lambda match: parts[match[1]](), page)


def commands() -> str:
    """Return a section for each command: its help as a terminal of 100 columns shows it."""
    [subcommands] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return "\n".join(
        f"## raydisc {name}\n\n```text\n{parser.format_help().strip()}\n```\n"
        for name, parser in subcommands.choices.items()
    )


def settings() -> str:
    """Return a section for each section of an experiment file, with a table of its settings."""
    schema = experiment_schema()
    sections = schema["$defs"]
    pages = [_section("The top level", sections["Experiment"], sections)]
    for name, setting in sections["Experiment"]["properties"].items():
        if (kind := setting.get("$ref", "").rpartition("/")[2]) and kind in sections:
            pages += [_section(path, section, sections) for path, section in _nested(name, sections[kind], sections)]
    for name, options in _schedules(sections).items():
        pages += [
            _section(path, section, sections) for path, section in _nested(f"schedules: {name}", options, sections)
        ]
    return "\n".join(pages)


def _nested(
    path: str, section: Mapping[str, Any], sections: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a section and the sections inside it, with their places in the file."""
    yield path, section
    for name, setting in section["properties"].items():
        for inner in (setting, *setting.get("anyOf", ()), *setting.get("oneOf", ())):
            if (kind := inner.get("$ref", "").rpartition("/")[2]) in sections:
                yield from _nested(f"{path}.{name}", sections[kind], sections)


def _schedules(sections: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the options of each schedule by its name."""
    [_, with_options] = sections["ScheduleConfig"]["anyOf"]
    found = {}
    for name, options in with_options["properties"].items():
        [reference] = [one["$ref"] for one in (options, *options.get("anyOf", ())) if "$ref" in one]
        found[name] = sections[reference.rpartition("/")[2]]
    return found


def _section(title: str, section: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    """Return the heading, the description and the table of one section."""
    required = section.get("required", ())
    lines = [
        f"| `{name}` | {_type(setting, sections)} | {_default(name, setting, required)} "
        f"| {_description(setting, sections)} |"
        for name, setting in section["properties"].items()
    ]
    head = [":::{table}", ":class: settings", ""]
    head += ["| setting | value | default | meaning |", "| --- | --- | --- | --- |"]
    table = [*head, *lines, ":::"] if lines else []
    heading = f"## {title}" if "." not in title else f"### {title}"
    return "\n".join([heading, "", _markdown(section["description"].partition("Example:")[0]), "", *table, ""])


def _default(name: str, setting: Mapping[str, Any], required: Any) -> str:
    if name in required:
        return "required"
    default = setting.get("default")
    if isinstance(default, dict) and ("$ref" in setting or "oneOf" in setting):
        return "see below"
    return f"`{_yaml(default)}`"


def _yaml(value: Any) -> str:
    """Return a value as an experiment file writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _type(setting: Mapping[str, Any], sections: Mapping[str, Any], several: bool = False) -> str:
    """Return the values that a setting may have, in words, or in the plural if they are the entries of a list."""
    alternatives = setting.get("anyOf") or setting.get("oneOf")
    if alternatives:
        return " or ".join(dict.fromkeys(_type(one, sections, several) for one in alternatives))
    if "$ref" in setting:
        kind = "schedule" if setting["$ref"].endswith("/ScheduleConfig") else "section"
        return f"{kind}s" if several else f"a {kind}"
    if "const" in setting:
        return f"`{setting['const']}`"
    if "enum" in setting:
        return ", ".join(f"`{one}`" for one in setting["enum"])
    if setting.get("type") == "array":
        return f"{'lists' if several else 'list'} of {_type(setting['items'], sections, several=True)}"
    if setting.get("type") == "object":
        return "keys and values"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    kind = words.get(setting["type"], setting["type"])
    bounds = ", ".join(f"{sign}{setting[key]}" for key, sign in _BOUNDS.items() if key in setting)
    return f"{kind}{'s' if several else ''} {bounds}".strip()


def _description(setting: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    inner = sections.get(setting.get("$ref", "").rpartition("/")[2], {})
    return _markdown(setting.get("description") or inner.get("description", ""))


def _markdown(text: str) -> str:
    """Return a description on one line, with the vertical bars that a table reserves escaped."""
    return " ".join(text.split()).replace("|", "\\|")
