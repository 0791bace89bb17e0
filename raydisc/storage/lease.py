"""Holding a name among machines that share only a storage without locks."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from raydisc.errors import StorageError
from raydisc.storage.folder import Held
from raydisc.storage.remote import Remote

_SETTLE_S = 0.2


@dataclass(frozen=True)
class LeaseTimes:
    """The times of a lease, in seconds.

    Attributes:
        stale_s: The age at which a lease that was not renewed expires.
        renew_s: The time between two renewals.
        ask_s: The time between two looks at another holder's lease.
    """

    stale_s: float = 90.0
    renew_s: float = 15.0
    ask_s: float = 1.0


USUAL_TIMES = LeaseTimes()


@contextmanager
def leased(remote: Remote, name: str, wait: bool, times: LeaseTimes = USUAL_TIMES) -> Iterator[None]:
    """Hold a name through a file that identifies its holder and is renewed meanwhile; an expired one is taken over.

    ``pyarrow.fs`` cannot write a file on the condition that it does not exist. Every candidate therefore writes the
    file, waits, and reads it again; the last writer holds the name. Two holders at once cannot be ruled out where a
    write takes long, so the work under a lease must tolerate being done twice, with the same bytes either time.

    Args:
        remote: The storage.
        name: The name of the file.
        wait: Whether to wait until the name is free.
        times: How long leases live, and how often they are renewed and read.

    Raises:
        Held: Another process holds the name, and ``wait`` is false.
    """
    own = json.dumps({"lease": uuid.uuid4().hex, "machine": _machine(), "pid": os.getpid()}).encode()
    while not _taken(remote, name, own, times):
        if not wait:
            raise Held(name)
        time.sleep(times.ask_s)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(remote, name, own, times, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(StorageError):  # the lease will expire
            if remote.read(name) == own:
                remote.remove(name)


def _taken(remote: Remote, name: str, own: bytes, times: LeaseTimes) -> bool:
    other = remote.read(name)
    if other is not None and not _ended(other) and not _stale(remote, name, times):
        return False
    began = time.monotonic()
    remote.write(name, own)
    time.sleep(_SETTLE_S + 2 * (time.monotonic() - began))
    return remote.read(name) == own


def _ended(lease: bytes) -> bool:
    """Whether a lease belongs to a process of this machine that has ended."""
    try:
        holder = json.loads(lease)
        if holder["machine"] != _machine():
            return False
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


def _stale(remote: Remote, name: str, times: LeaseTimes) -> bool:
    """Whether a lease has expired by the storage's clock; the clocks of machines may differ."""
    probe = f"{name}.asked-{uuid.uuid4().hex[:8]}"
    remote.write(probe, b"")
    try:
        now, then = remote.written_at(probe), remote.written_at(name)
        return now is not None and then is not None and (now - then).total_seconds() > times.stale_s
    finally:
        remote.remove(probe)


def _renew(remote: Remote, name: str, own: bytes, times: LeaseTimes, ended: threading.Event) -> None:
    while not ended.wait(times.renew_s):
        with suppress(StorageError):
            if remote.read(name) != own:
                return  # taken over
            remote.write(name, own)


def _machine() -> str:
    """Return what two processes have in common if each can look up the other by its process number."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
