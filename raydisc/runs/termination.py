"""SIGTERM, as a spot node or `ray job stop` sends it before the process is killed."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

GRACE_S = 20.0
"""Seconds that a process told to go takes at most: a spot node gives half a minute or more."""

_GOING = threading.Event()


@contextmanager
def on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Have SIGTERM call a function meanwhile; only the main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt() -> None:
    """Do as Ctrl-C does.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt


def is_going() -> bool:
    """Whether this process, a trial's or one of its workers', was told to go."""
    return _GOING.is_set()


def leave() -> NoReturn:
    """End this process at once, for another to go on from what it has kept."""
    os._exit(1)


def heed_sigterm() -> None:
    """Have SIGTERM ask this process to go, and end it some time later; Ray would end it at once. On the main thread."""
    signal.signal(signal.SIGTERM, _told_to_go)


class Preemptible:
    """Of a Tune trainable, whose set-up is on its process's main thread: SIGTERM has its stage keep a checkpoint."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the signal from Ray."""
        heed_sigterm()
        super().setup(config)  # type: ignore[misc]


def _told_to_go(*_: object) -> None:
    _GOING.set()
    last = threading.Timer(GRACE_S, leave)
    last.daemon = True
    last.start()
