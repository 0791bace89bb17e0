"""The shape of JSON values: every field by its path, and the types of what it holds."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

NAMES = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number", type(None): "null"}


def shape_of(value: Any) -> dict[str, str]:
    """Path to types; ``[]`` stands for every member of a list. Whole numbers and others are not told apart."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, name in _leaves(value, ""):
        found[path or "."].add(name)
    return {path: " or ".join(sorted(names)) for path, names in sorted(found.items())}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    yield path, NAMES[type(value)]
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}".lstrip("."))
    if isinstance(value, list):
        for member in value:
            yield from _leaves(member, f"{path}[]")
