"""Noticing that the cluster of a session has gone.

Ray itself ends a driver only a minute later, and the processes of a node that is cut off many minutes later. Until then
they would hold their stages, and the processes that continue these stages elsewhere would have to wait.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NoReturn

from raydisc.runs.termination import leave
from raydisc.runtime.ray_internals import raylet_socket

_ASK_EVERY_S = 2.0
_TRIAL_ASKS_EVERY_S = 10.0
"""Longer than the driver's interval, since there may be a thousand trials."""

_ANSWER_S = 5.0

_NODE_SILENT_S = 6.0
"""The silence after which a node is lost: a raylet that has stopped listening never comes back."""

_HEAD_SILENT_S = 0.75 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60"))
"""The silence after which the head is lost; Ray waits a little longer for a head that is restarted."""


@contextmanager
def on_loss(act: Callable[[], NoReturn]) -> Iterator[None]:
    """Call a function when the cluster that this process has joined stops answering.

    The function runs on a thread of its own and has to end the process, because a pending call of Ray may never return.
    """
    left = threading.Event()
    threading.Thread(target=watch, args=(_listeners(_ASK_EVERY_S), left, act), daemon=True).start()
    try:
        yield
    finally:
        left.set()


@cache
def leave_on_loss() -> None:
    """End this process, which runs a trial or one of its workers, when its cluster stops answering."""
    words = (_listeners(_TRIAL_ASKS_EVERY_S), threading.Event(), leave, _TRIAL_ASKS_EVERY_S)
    threading.Thread(target=watch, args=words, daemon=True).start()


def _listeners(every_s: float) -> list["Listener"]:
    """Return the listeners of this process's node and of the head, or nothing for a Ray client (``ray://``)."""
    import ray

    socket_name = raylet_socket()
    if socket_name is None:
        return []
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return [
        Listener(partial(knock, socket_name), max(_NODE_SILENT_S, 2.5 * every_s)),
        Listener(partial(_call, host.strip("[]"), int(port)), _HEAD_SILENT_S),
    ]


def knock(socket_name: str) -> None:
    """Connect to a socket of this machine.

    Raises:
        OSError: No process listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ANSWER_S)
        asking.connect(socket_name)


def _call(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=_ANSWER_S).close()


@dataclass
class Listener:
    """A process that listens for connections.

    Attributes:
        ask: Connects to the listener; raises an ``OSError`` where it does not answer.
        patience: The seconds without an answer after which the listener is lost.
        heard: The time of the last answer.
    """

    ask: Callable[[], None]
    patience: float
    heard: float = field(default_factory=time.monotonic)

    def is_lost(self) -> bool:
        """Whether the listener, asked now, has been silent for longer than its patience."""
        try:
            self.ask()
        except OSError:
            return time.monotonic() - self.heard > self.patience
        self.heard = time.monotonic()
        return False


def watch(
    listeners: Sequence[Listener], left: threading.Event, act: Callable[[], NoReturn], every_s: float = _ASK_EVERY_S
) -> None:
    """Ask the listeners every ``every_s`` seconds until ``left`` is set, and act once one of them is lost."""
    while not left.wait(every_s):
        if any(listener.is_lost() for listener in listeners) and not left.is_set():
            act()
