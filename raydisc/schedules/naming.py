"""Options and settings as parts of the names of trials, which become those of folders."""

import hashlib
from collections.abc import Iterable
from typing import Any

_LONGEST = 100
"""The most letters of a trial's settings in its name; longer ones are hashed."""


def worded(value: Any) -> str:
    """Return an option's value as a part of a name."""
    if isinstance(value, float):
        return f"{value:.15g}"
    text = "-".join(map(worded, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)


def settings_worded(settings: Iterable[tuple[str, Any]]) -> str:
    """Return a trial's own settings as a part of its name."""
    text = "".join(f"-{name}-{worded(value)}" for name, value in settings)
    return text if len(text) <= _LONGEST else f"-settings-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
