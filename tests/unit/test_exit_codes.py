"""The end of a command whose reader has gone, with real pipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raydisc.exit_codes import BAD_INPUT, READER_GONE, exit_code_of


def left_alone(*words: str, stderr_too: bool = False, unbuffered: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run a command whose output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", "raydisc", *words],
            stdout=writer,
            stderr=writer if stderr_too else subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1" if unbuffered else ""},
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("words", [("schema",), ("completion", "bash"), ("--version",), ("--help",)])
def test_a_command_whose_reader_has_gone_ends_without_a_word(words: tuple[str, ...]) -> None:
    done = left_alone(*words)
    assert (done.returncode, done.stderr) == (READER_GONE, "")


def test_help_that_is_written_at_once_and_that_nobody_reads() -> None:
    done = left_alone("run", "--help", unbuffered=True)
    assert (done.returncode, done.stderr) == (READER_GONE, "")


def test_a_typing_error_that_nobody_is_told_of() -> None:
    assert left_alone("rum", stderr_too=True).returncode == READER_GONE


def test_a_refusal_that_nobody_reads(tmp_path: Path) -> None:
    assert left_alone("validate", str(tmp_path / "missing.yaml"), stderr_too=True).returncode == READER_GONE


def test_a_reader_that_has_gone_takes_no_error_with_it(tmp_path: Path) -> None:
    done = left_alone("validate", str(tmp_path / "missing.yaml"))
    assert done.returncode == BAD_INPUT
    assert "missing.yaml" in done.stderr


def test_another_pipe_that_breaks_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    def act() -> int:
        return os.write(writer, b"text")

    with pytest.raises(BrokenPipeError):
        exit_code_of(act)
    os.close(writer)
