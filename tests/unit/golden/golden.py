"""Comparing what is found with what was recorded in ``expected/NAME.json``.

To change a recorded value deliberately, run the tests that compare it once with ``RAYDISC_RECORD_GOLDEN=1`` in the
environment (they write the file and fail), read the difference that ``git diff`` shows, and say in the commit why users
may bear it.
"""

import json
import os
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

EXPECTED = Path(__file__).parent / "expected"


def compare(name: str, found: Any, meaning: str) -> None:
    """Fail, with the difference, where what is found is not what was recorded.

    Args:
        name: of the file.
        found: what the program gives now, as JSON values.
        meaning: what a difference means to users.
    """
    path, text = EXPECTED / f"{name}.json", json.dumps(found, indent=1) + "\n"
    if os.environ.get("RAYDISC_RECORD_GOLDEN"):
        path.write_text(text)
        pytest.fail(f"{path} is recorded; run the test again without RAYDISC_RECORD_GOLDEN")
    recorded = path.read_text()
    if text != recorded:
        lines = unified_diff(recorded.splitlines(), text.splitlines(), "recorded", "found", n=1, lineterm="")
        pytest.fail("\n".join([f"{meaning} Where that is meant: see {Path(__file__).name}", *lines]), pytrace=False)
