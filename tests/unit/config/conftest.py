"""Writing experiment files, and how they are refused."""

from pathlib import Path

import pytest

from raydisc.config.experiment import (
    load_experiment,
)
from raydisc.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refusal(write):
    """Load a text with overrides and return the one sentence that refuses it, without the file's name."""

    def refusal(text: str, *overrides: str) -> str:
        path = write(text)
        with pytest.raises(InputError) as caught:
            load_experiment(path, overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    return refusal
