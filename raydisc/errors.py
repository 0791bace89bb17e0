"""Errors that a user of raydisc meets."""


class InputError(ValueError):
    """Something the user gave is wrong: the message says what, where, and what would be right."""


class NonFiniteLoss(RuntimeError):
    """A training loss stopped being a number; the message names the stage and the step."""


class StorageError(RuntimeError):
    """The storage cannot be read or written; the message says which one, why, and what to do."""


class OutOfMemory(RuntimeError):
    """A stage needs more memory than there is; the message says what was tried and what to do."""


class Stopped(RuntimeError):
    """A stage ended before its time because it was asked to; what it has done is kept."""


def reason_of(error: Exception) -> str:
    """What went wrong, on one line."""
    return on_one_line(str(error)) or type(error).__name__


def on_one_line(text: str) -> str:
    """The first 200 characters of a text that may hold anything; what does not print is written as an escape."""
    line = " ".join(text.split())[:200]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
