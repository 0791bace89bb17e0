"""Comparing what is found with what was recorded in ``expected/NAME.json``.

To change a recorded value deliberately, run the tests that compare it once with ``RAYDISC_RECORD_GOLDEN=1`` in the
environment (they write the file and fail), read the difference that ``git diff`` shows, and say in the commit why users
may bear it.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXPECTED = Path(__file__).parent / "expected"
TOLERANCE = 1e-3
"""The tolerance of numbers with a fraction, since results of different processors differ by up to 1e-4."""

MOST = 40
"""Differences that a failure shows."""


def compare(name: str, found: Any, meaning: str) -> None:
    """Fail, with each difference on a line, where what is found is not what was recorded.

    Args:
        name: of the file.
        found: what the program gives now, as JSON values.
        meaning: what a difference means to users.
    """
    path = EXPECTED / f"{name}.json"
    if os.environ.get("RAYDISC_RECORD_GOLDEN"):
        path.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{path} is recorded; run the test again without RAYDISC_RECORD_GOLDEN", pytrace=False)
    lines = list(differences(json.loads(path.read_text()), json.loads(json.dumps(found))))
    if lines:
        more = [f"... and {len(lines) - MOST} more"] if len(lines) > MOST else []
        how = f"Where that is meant: see {Path(__file__).name}"
        pytest.fail("\n".join([f"{meaning} {how}", *lines[:MOST], *more]), pytrace=False)


def differences(recorded: Any, found: Any, place: str = "") -> Iterator[str]:
    """A line for each place where two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        pairs = {name: (recorded.get(name, "nothing"), found.get(name, "nothing")) for name in recorded | found}
        for name, (before, now) in pairs.items():
            yield from differences(before, now, f"{place}.{name}".lstrip("."))
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, (before, now) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(before, now, f"{place}[{index}]")
    elif not _alike(recorded, found):
        yield f"{place}: recorded {recorded}, found {found}"


def _alike(recorded: Any, found: Any) -> bool:
    if isinstance(recorded, float) and isinstance(found, float):
        return math.isclose(recorded, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(recorded) is type(found) and recorded == found
