"""A folder for temporary files that no other user can enter, and that goes with the process that made it.

Ray gives its files and sockets permissions by which everybody may write to many of them, whatever the umask. Below this
folder nobody else reaches them.
"""

import atexit
import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from raydisc.errors import InputError

_PREFIX = "raydisc-"

LOCK = "session.lock"
"""The file that the owner of a folder holds locked; the lock ends with the process, however that ends."""

_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest path that the system takes for a socket."""

SOCKET_BELOW = f"/{_PREFIX}12345678/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""How the path of Ray's socket with the longest name goes on below the folder for temporary files."""

_REMOVING_S = 5.0
"""Seconds in which processes of a session that has ended may still write while its files are removed."""


class PrivateFolder:
    """A new folder for temporary files, for this user alone (mode 0700).

    A process that is killed leaves its folder behind. Whoever makes the next one removes it.

    Raises:
        InputError: No folder for temporary files can be used.
    """

    def __init__(self) -> None:
        """Make it, and remove those that killed processes have left."""
        base = _base()
        _remove_abandoned(base)
        try:
            self.path, self._lock = _held_folder(base)
        except OSError as error:
            raise InputError(
                f"the folder for temporary files '{base}' cannot be written ({error.strerror}); name another one in "
                "RAY_TMPDIR"
            ) from error
        self._owner = os.getpid()

    def remove(self) -> None:
        """Remove the folder with everything in it, unless this process is a fork of the one that made it."""
        if os.getpid() == self._owner:
            remove_folder(self.path)


@cache
def private_folder() -> PrivateFolder:
    """Return the folder of this process, which is made when it is first asked for and removed when the process ends.

    Raises:
        InputError: No folder for temporary files can be used.
    """
    folder = PrivateFolder()
    atexit.register(folder.remove)
    return folder


def remove_private_folder() -> None:
    """Remove the folder of this process, if it has one, before the process ends without its exit handlers."""
    if private_folder.cache_info().currsize:
        private_folder().remove()


def remove_folder(folder: Path) -> None:
    """Remove a folder into which processes that are about to end may still write."""
    end = time.monotonic() + _REMOVING_S
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > end:
            return
        time.sleep(0.05)


def _base() -> Path:
    """Return the folder for temporary files: the first whose path leaves room for the names of Ray's sockets."""
    room = _SOCKET_BYTES - len(SOCKET_BELOW)
    for named in (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp"):
        if named and len(os.fsencode(os.path.abspath(named))) <= room and os.path.isdir(named):
            return Path(named).absolute()
    raise InputError(
        f"no folder for temporary files has a path of at most {room} bytes, as the sockets of Ray need; name one in "
        "RAY_TMPDIR"
    )


def _held_folder(base: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor by which this process holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():  # else another process was faster, and took the folder for abandoned
            return folder, lock
        os.close(lock)


def _remove_abandoned(base: Path) -> None:
    """Remove this user's folders that no process holds any more."""
    for path in base.glob(f"{_PREFIX}*/{LOCK}"):
        with suppress(OSError):  # it has just been removed, or is somebody else's
            status = path.parent.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_unless_held(path)


def _remove_unless_held(lock: Path) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_folder(lock.parent)
    except BlockingIOError:
        pass  # its owner is alive
    finally:
        os.close(descriptor)
