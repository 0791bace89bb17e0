"""The errors that users of raydisc meet."""


class InputError(ValueError):
    """An input of the user is wrong; the message says what, where, and what would be right.

    Example:
        >>> from raydisc import METRICS
        >>> try:
        ...     METRICS.get("acuracy", "task.metric")
        ... except InputError as error:
        ...     print(error)
        unknown metric 'acuracy' in task.metric (did you mean 'accuracy'?)
    """


class NonFiniteLoss(RuntimeError):
    """A training loss is infinite or not a number; the message names the stage and the step."""


class StorageError(RuntimeError):
    """The storage cannot be read or written; the message says which one, why, and what to do.

    Example:
        >>> from raydisc.storage.faults import Patience, insist
        >>> def ask():
        ...     raise OSError("ACCESS_DENIED")
        >>> try:
        ...     insist(ask, "s3://bucket/runs", Patience(seconds=0))
        ... except StorageError as error:
        ...     print(str(error).partition(";")[0])
        storage: 's3://bucket/runs' refuses (ACCESS_DENIED)
    """


class OutOfMemory(RuntimeError):
    """A stage needs more memory than the device has; the message says what was tried and what to do."""


class Stopped(RuntimeError):
    """A stage was asked to stop before its end; its progress is kept."""


def reason_of(error: Exception) -> str:
    """Return the message of an error on one line, or the name of its type if it has no message."""
    return on_one_line(str(error)) or type(error).__name__


def on_one_line(text: str) -> str:
    """Return the first 200 characters of any text on one line, with unprintable characters escaped."""
    line = " ".join(text.split())[:200]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
