"""Holding a name among machines that share nothing but a storage without locks."""

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
    """Times of a lease, in seconds.

    Attributes:
        stale_s: after which a lease that nobody has renewed counts no more.
        renew_s: between two renewals.
        ask_s: between two looks at somebody else's.
    """

    stale_s: float = 90.0
    renew_s: float = 15.0
    ask_s: float = 1.0


USUAL_TIMES = LeaseTimes()


@contextmanager
def leased(remote: Remote, name: str, wait: bool, times: LeaseTimes = USUAL_TIMES) -> Iterator[None]:
    """Hold a name by a file that says who holds it, renewed meanwhile; one that is not renewed is taken over.

    Such a storage has no way to write a file only where there is none. Who writes looks again a little later, and of
    several the last one holds. That two hold at once cannot be ruled out where a write takes long, so that whatever is
    done under a lease may be done twice: writes are the same whoever does them.

    Args:
        remote: the storage.
        name: of the file.
        wait: until nobody else holds it.
        times: see there.

    Raises:
        Held: somebody does, and the caller does not wait.
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
        with suppress(StorageError):  # it will be stale
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
    """Whether it is one of a process of this machine that has ended."""
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
    """Whether it was renewed too long ago, by the storage's clock: those of machines may differ."""
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
    """By which a process knows that another one's number means something to it."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
