"""Faults of a storage: which requests are repeated, for how long, and the sentence that users see."""

import errno
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from raydisc.errors import StorageError, reason_of
from raydisc.storage.masking import masked

Answer = TypeVar("Answer")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_BROKEN = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT}

_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|INVALID_CLIENT_TOKEN_ID|NO_SUCH_BUCKET"
    r"|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status (?:400|401|403|405|411|501)\b"
)
"""Errors of pyarrow's file systems that repeating a request does not change."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")

_JITTER = random.Random()
"""A generator of its own, since drawing from the global one would change results."""


@dataclass(frozen=True)
class Patience:
    """The times for which requests to a failing storage are repeated, in seconds.

    Attributes:
        seconds: The time after which to give up.
        first_s: The wait before the second attempt; each further wait is twice as long.
        longest_s: The longest wait between two attempts.
    """

    seconds: float = 300.0
    first_s: float = 0.2
    longest_s: float = 20.0


def insist(ask: Callable[[], Answer], address: str, patience: Patience) -> Answer:
    """Repeat a request until it succeeds; waits grow and are random, so that many nodes do not ask at once.

    Args:
        ask: Makes the request; raises ``OSError`` where it fails.
        address: The address of the storage, for the message.
        patience: How long to repeat the request.

    Returns:
        The answer of ``ask``.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: The storage refuses, or has failed for as long as the patience lasts.
    """
    end, wait = time.monotonic() + patience.seconds, patience.first_s
    while True:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except OSError as error:
            told = sentence(error, address)
            if told is not None:
                raise StorageError(told) from None
            pause = wait * _JITTER.uniform(0.5, 1.0)
            if time.monotonic() + pause > end:
                raise StorageError(
                    f"storage: '{masked(address)}' fails ({masked(reason_of(error))}), also after "
                    f"{patience.seconds:g} seconds of trying; see that it can be reached, then go on with "
                    "`raydisc resume`"
                ) from None
        time.sleep(pause)
        wait = min(2 * wait, patience.longest_s)


def sentence(error: Exception, storage: str) -> str | None:
    """Return the sentence for a fault of the storage that repeating does not mend; None for other errors."""
    number, reason, storage = _number(error), masked(reason_of(error)), masked(storage)
    if number in _FULL:
        return f"storage: '{storage}' is full ({reason}); make room there, then go on with `raydisc resume`"
    if number in _CLOSED or isinstance(error, PermissionError):
        return f"storage: '{storage}' cannot be written ({reason}); open it, then go on with `raydisc resume`"
    if number in _BROKEN and "://" not in storage:
        return f"storage: '{storage}' fails ({reason}); mend it, then go on with `raydisc resume`"
    if isinstance(error, OSError) and _REFUSED.search(str(error)):
        return (
            f"storage: '{storage}' refuses ({reason}); see that it exists and that the credentials in the environment "
            "may read and write there"
        )
    return None


def _number(error: BaseException) -> int | None:
    """Return the number of an operating-system error, which safetensors gives only in its message."""
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None
