"""Noticing that the session's cluster is gone.

Ray tells a driver so by ending its process a minute later. The processes of a node that is cut off it ends after many:
until then they would hold their stages, and the processes that are to go on with these elsewhere would wait.
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
"""There may be a thousand of them."""

_ANSWER_S = 5.0

_NODE_SILENT_S = 6.0
"""A raylet that this process was connected to, and that does not listen any more, never comes back."""

_HEAD_SILENT_S = 0.75 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60"))
"""A head may be started anew (Ray's fault tolerance of the GCS); Ray waits for it a little longer than this."""


@contextmanager
def on_loss(act: Callable[[], NoReturn]) -> Iterator[None]:
    """Have a function called once the cluster that this process has joined does not answer any more.

    It is called on a thread of its own and is to end the process: a call of Ray may never return then.
    """
    left = threading.Event()
    threading.Thread(target=watch, args=(_places(_ASK_EVERY_S), left, act), daemon=True).start()
    try:
        yield
    finally:
        left.set()


@cache
def leave_on_loss() -> None:
    """Have this process, a trial's or one of its workers', end once the cluster it is of does not answer any more."""
    words = (_places(_TRIAL_ASKS_EVERY_S), threading.Event(), leave, _TRIAL_ASKS_EVERY_S)
    threading.Thread(target=watch, args=words, daemon=True).start()


def _places(every_s: float) -> list["Place"]:
    """Where this process's node and the head listen, to be asked every so often.

    Nowhere for a client (ray://), which is none of the cluster.
    """
    import ray

    socket_name = raylet_socket()
    if socket_name is None:
        return []
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return [
        Place(partial(knock, socket_name), max(_NODE_SILENT_S, 2.5 * every_s)),
        Place(partial(_call, host.strip("[]"), int(port)), _HEAD_SILENT_S),
    ]


def knock(socket_name: str) -> None:
    """Connect to a socket of this machine; an ``OSError`` where nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ANSWER_S)
        asking.connect(socket_name)


def _call(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=_ANSWER_S).close()


@dataclass
class Place:
    """Where somebody listens.

    Attributes:
        ask: raises an ``OSError`` where nobody does.
        patience: for how many seconds nobody may before all is lost.
        heard: when somebody was there.
    """

    ask: Callable[[], None]
    patience: float
    heard: float = field(default_factory=time.monotonic)

    def is_lost(self) -> bool:
        """Whether nobody has listened for longer than that, asked now."""
        try:
            self.ask()
        except OSError:
            return time.monotonic() - self.heard > self.patience
        self.heard = time.monotonic()
        return False


def watch(
    places: Sequence[Place], left: threading.Event, act: Callable[[], NoReturn], every_s: float = _ASK_EVERY_S
) -> None:
    """Act once one of the places is lost, unless it was left before; looks every so many seconds."""
    while not left.wait(every_s):
        if any(place.is_lost() for place in places) and not left.is_set():
            act()
