"""Noticing that the session's cluster is gone, of which Ray tells a driver by ending its process a minute later."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

_ASK_EVERY_S = 2.0
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
    import ray
    from ray._private.worker import global_worker

    node, left = global_worker.node, threading.Event()
    if node is not None:  # a client (ray://) is none of the cluster
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        places = [
            _Place(socket.AF_UNIX, node.raylet_socket_name, _NODE_SILENT_S),
            _Place(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port)), _HEAD_SILENT_S),
        ]
        threading.Thread(target=_watch, args=(places, left, act), daemon=True).start()
    try:
        yield
    finally:
        left.set()


@dataclass
class _Place:
    """Where somebody listens, and for how many seconds nobody may before all is lost."""

    family: socket.AddressFamily
    address: str | tuple[str, int]
    patience: float
    heard: float = field(default_factory=time.monotonic)

    def is_lost(self) -> bool:
        with socket.socket(self.family, socket.SOCK_STREAM) as asking:
            asking.settimeout(_ANSWER_S)
            try:
                asking.connect(self.address)
            except OSError:
                return time.monotonic() - self.heard > self.patience
        self.heard = time.monotonic()
        return False


def _watch(places: Sequence[_Place], left: threading.Event, act: Callable[[], NoReturn]) -> None:
    while not left.wait(_ASK_EVERY_S):
        if any(place.is_lost() for place in places) and not left.is_set():
            act()
