"""The reader of experiment files: YAML, ``--set`` overrides, and errors that name the place and the remedy.

Nothing here knows the fields of an experiment.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from raydisc.errors import InputError
from raydisc.registry import nearest

# YAML 1.2's core schema: PyYAML's own 1.1 rules read `5e-5` as text, `on` as true and `2026-01-01` as a date.
_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
}


_MOST_BYTES, _MOST_VALUES, _DEEPEST = 2**20, 20_000, 32
"""The limits of an experiment file; an alias counts as the values that it stands for."""

_MOST_DIGITS = 400
"""The limit of a whole number: more digits than any float has."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that names and paths must not contain; half a surrogate pair cannot even be written."""


class _Loader(yaml.SafeLoader):
    """A safe loader of YAML 1.2 scalars, which refuses repeated keys, tags and files beyond the limits."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, stream: str) -> None:
        """Start to read a text."""
        super().__init__(stream)
        self._depth, self._values = 0, 0
        self._anchored: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value, and count the values and their depth."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before, alias = self._values, isinstance(event, yaml.AliasEvent)
        if alias and event.anchor in self.anchors and event.anchor not in self._anchored:
            raise _refusal(f"alias '*{event.anchor}' lies inside what it stands for", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tag '{event.tag}' is not read here; write the value plainly", event)
        self._values += self._anchored.get(event.anchor, 1) if alias else 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _refusal(f"values lie more than {_DEEPEST} deep", event)
        if self._values > _MOST_VALUES:
            raise _refusal(f"there are more than {_MOST_VALUES} values", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None and not alias:
            self._anchored[event.anchor] = self._values - before
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Return the text of a scalar; control characters are an error."""
        text: str = super().construct_scalar(node)
        if found := _UNPRINTABLE.search(text):
            raise _refusal(f"text has the control character {found[0]!a}", node)
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a repeated key is an error instead of silently replacing the first one."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise _refusal("a key must be plain text", key_node)
            if key in seen:
                raise _refusal(f"key '{_short(key, 60)}' is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    """Return an error at the place of a node or an event."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MOST_DIGITS:
        raise _refusal(f"a number has more than {_MOST_DIGITS} digits", node)
    return int(loader.construct_scalar(node))


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes exactly the texts that ``_Loader`` would not read as text."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out each time, because anchors make a file of settings hard to read."""
        return True


for _kind, (_pattern, _first) in _SCALARS.items():
    for _handler in (_Loader, _Dumper):
        _handler.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)

_WANTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, too large or not valid YAML, or its top level is not a mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(f"cannot read the experiment file '{path}': it is larger than {_MOST_BYTES // 2**20} MiB")
        data = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"cannot read the experiment file '{path}': {reason}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}{_yaml_reason(error)}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} should be a list of sections such as 'task:' and 'teacher:', one to a line")
    return data


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Return YAML that ``read_yaml`` reads back to the same data, with the keys in the given order."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _yaml_reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    return f"{where} is not valid YAML: {_short(getattr(error, 'problem', None) or ' '.join(str(error).split()))}"


def _short(value: Any, most: int = 200) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def apply_overrides(
    data: Mapping[str, Any], overrides: Sequence[str], alternatives: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, Any]:
    """Return the contents of an experiment file with ``a.b=value`` overrides applied.

    A value is read as YAML, and a list is replaced as a whole. In a section of ``alternatives``, overriding the first
    key of a group removes the keys of the other groups, unless they are overridden too.

    Args:
        data: The contents of the file, which are not changed.
        overrides: Texts of the form ``a.b=value``; later ones take precedence.
        alternatives: For each section, the groups of keys of which a file uses one. A group is named by its first key.

    Raises:
        InputError: An override does not have that form, or its place lies inside a value that is not a section.
    """
    result = copy.deepcopy(dict(data))
    places = [_split_override(override) for override in overrides]
    for section, groups in alternatives.items():
        overridden = {keys[1] for keys, _ in places if keys[0] == section and len(keys) > 1}
        chosen = [group for group in groups if group[0] in overridden]
        if chosen and isinstance(result.get(section), dict):
            stale = {key for group in groups if group not in chosen for key in group}
            result[section] = {key: value for key, value in result[section].items() if key not in stale}
    for keys, value in places:
        _put(result, keys, value)
    return result


def _split_override(override: str) -> tuple[list[str], Any]:
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override} should look like --set student.scale=0.1")
    try:
        return keys, yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}{_yaml_reason(error)}") from error


def _put(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for depth, key in enumerate(keys[:-1], start=1):
        if data.get(key) is None:
            data[key] = {}
        if not isinstance(data[key], dict):
            place = ".".join(keys[:depth])
            kind = "a list: give the whole list" if isinstance(data[key], list) else "a single value"
            raise InputError(f"--set {'.'.join(keys)}: {place} is {kind}, as in --set {place}=...")
        data = data[key]
    data[keys[-1]] = value


def refuse_unknown_keys(data: Any, known: Iterable[str]) -> Any:
    """Return ``data`` unchanged, or raise an error for its first unknown key (the body of a before-validator)."""
    names = list(known)
    for key in data if isinstance(data, Mapping) else ():
        if key not in names:
            context = {"key": _short(key), "hint": nearest(str(key), names)}
            raise PydanticCustomError("unknown_key", "unknown key '{key}'{hint}", context)
    return data


def expecting(wanted: str) -> WrapValidator:
    """Return an annotation for a union: one error that says what is wanted instead of one for each member."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise PydanticCustomError("expected", "Input should be {wanted}", {"wanted": wanted}) from error

    return WrapValidator(check)


def explain(error: ValidationError, data: Any) -> str:
    """Return the first error as one sentence that names the place, with the number of further errors.

    Args:
        error: The error that pydantic raised.
        data: The data that were validated; places are named as they are written there.
    """
    details = error.errors(include_url=False)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return _sentence(details[0], data) + more


def _sentence(detail: ErrorDetails, data: Any) -> str:
    loc, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    of_key = loc[-1:] == ("[key]",)
    place = _place(loc[:-2] if of_key else loc, data)
    inside = f" in {place}" if place else ""
    value = _short(repr(detail["input"]), 60)
    if kind == "missing":
        return f"{place or 'the experiment'} needs the key '{loc[-1]}'"
    if kind.startswith("unknown_"):
        return f"unknown {kind.removeprefix('unknown_')} '{context['key']}'{inside}{context['hint']}"
    if kind == "literal_error":
        return f"{place} is {value}, but should be {context['expected']}"
    if kind == "value_error":
        return f"{place}: {context['error']}" if place else str(context["error"])
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"{place} is {value}, but should have {bound} in it"
    wanted = f"should be {_WANTED[kind]}" if kind in _WANTED else detail["msg"].removeprefix("Input ")
    return f"{place or 'the experiment'} is {value}, but {wanted}"


def _place(loc: Sequence[int | str], data: Any) -> str:
    """Return the place that ``loc`` leads to in ``data``, without the parts that pydantic adds."""
    place = ""
    for part in loc:
        if isinstance(data, Mapping) and part in data:
            place, data = f"{place}.{part}".lstrip("."), data[part]
        elif isinstance(data, list | tuple) and isinstance(part, int):
            place, data = f"{place}[{part}]", data[part]
    return place
