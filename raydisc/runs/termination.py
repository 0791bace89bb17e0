"""SIGTERM, which a spot node or ``ray job stop`` sends before it kills a process."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

GRACE_S = 20.0
"""The most seconds between SIGTERM and the end of a process; a spot node leaves half a minute or more."""

_GOING = threading.Event()


@contextmanager
def on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Call a function on SIGTERM within a ``with`` block; this has an effect on the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt() -> None:
    """Do what Ctrl-C does.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt


def is_going() -> bool:
    """Whether this process, which runs a trial or one of its workers, has received SIGTERM."""
    return _GOING.is_set()


def leave() -> NoReturn:
    """End this process at once; another continues from its last checkpoint."""
    os._exit(1)


def heed_sigterm() -> None:
    """Let this process write a checkpoint on SIGTERM before it ends; Ray would end it at once.

    This must be called on the main thread.
    """
    signal.signal(signal.SIGTERM, _told_to_go)


class Preemptible:
    """A mixin of a Tune trainable, whose stage writes a checkpoint on SIGTERM."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the signal's handling over from Ray; Tune calls this on the main thread."""
        heed_sigterm()
        super().setup(config)  # type: ignore[misc]


def _told_to_go(*_: object) -> None:
    _GOING.set()
    last = threading.Timer(GRACE_S, leave)
    last.daemon = True
    last.start()
