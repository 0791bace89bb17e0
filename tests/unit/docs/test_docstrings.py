"""The examples in docstrings: what they show is what happens."""

import doctest
from importlib import import_module

import pytest
from pages import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "raydisc").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_show_what_happens(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0


def test_examples_are_found() -> None:
    assert {"raydisc.registry", "raydisc.schedules", "raydisc.schedules.base"} < set(MODULES)
