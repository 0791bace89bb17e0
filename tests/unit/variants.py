"""Variants of long tests, of which a few are run in every check and the others on demand."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(always: Iterable[Any], variants: Iterable[Any]) -> list[Any]:
    """Parameters for pytest, those that are not always run marked `slow`."""
    always = list(always)
    return [it if it in always else pytest.param(*_values(it), marks=pytest.mark.slow) for it in variants]


def _values(variant: Any) -> tuple[Any, ...]:
    """Of several parameters, or of one."""
    return variant if isinstance(variant, tuple) else (variant,)
