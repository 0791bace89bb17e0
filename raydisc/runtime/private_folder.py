"""A folder for temporary files that no other user can enter, and that goes with the process that made it.

Ray gives its files and sockets permissions by which everybody may write to many of them, whatever the umask. Below this
folder nobody else reaches them.
"""

import atexit
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from raydisc.errors import InputError
from raydisc.runtime.liveness import knock

_PREFIX = "raydisc-"

LOCK = "session.lock"
"""The file that the owner of a folder holds locked; the lock ends with the process, however that ends."""

_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest path that the system takes for a socket."""

SOCKET_BELOW = f"/{_PREFIX}12345678/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""How the path of Ray's socket with the longest name goes on below the folder for temporary files."""

_NAME = re.compile(_PREFIX + r"(?!\d+$)[a-z0-9_]{8}")
"""The name of a folder that was made here; a number alone follows the same prefix in the copy of a remote storage."""

_CONTENTS = re.compile(r"ray|token|node\d+")
"""What is in such a folder beside its lock: the files of a session or of the nodes of ``clusters/local.py``."""

_NEW_S = 60.0
"""The age up to which a folder without a lock may be one that is just being filled."""

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
        base = usable_base()
        _remove_abandoned(base)
        self.path, self._lock = _held_folder(base)
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
    while not _is_removed(folder) and time.monotonic() < end:
        time.sleep(0.05)


def _is_removed(folder: Path) -> bool:
    """Remove what is in a folder, and the folder with its lock if nothing else is left; whether it is gone.

    As long as anything is left the lock is, so that the next process finds the rest.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
        if all(path.name == LOCK for path in folder.iterdir()):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
    return not folder.exists()


def usable_base() -> Path:
    """Return the folder for temporary files, below which the names of Ray's sockets have room.

    Raises:
        InputError: ``RAY_TMPDIR`` names one that cannot be used; or there is none.
    """
    room = _SOCKET_BYTES - len(SOCKET_BELOW)
    named = os.environ.get("RAY_TMPDIR")
    if named:
        length = len(os.fsencode(os.path.abspath(named)))
        if not os.path.isdir(named):
            raise InputError(f"RAY_TMPDIR is '{named}', which is not a folder; name one, or unset it")
        if length > room:
            raise InputError(
                f"RAY_TMPDIR is '{named}', a path of {length} bytes, but the sockets of Ray need one of at most "
                f"{room}; name another folder, or unset it"
            )
        return _writable(named)
    for found in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(os.path.abspath(found))) <= room and os.path.isdir(found):
            return _writable(found)
    raise InputError(
        f"no folder for temporary files has a path of at most {room} bytes, as the sockets of Ray need; name one in "
        "RAY_TMPDIR"
    )


def _writable(base: str) -> Path:
    try:
        tempfile.TemporaryFile(dir=base).close()
    except OSError as error:
        raise InputError(
            f"the folder for temporary files '{base}' cannot be written ({error.strerror}); name another one in "
            "RAY_TMPDIR"
        ) from error
    return Path(base).absolute()


def _held_folder(base: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor by which this process holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # another process may be faster, and take the folder for abandoned
        with suppress(FileNotFoundError, FileExistsError):
            lock = _new_lock(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / LOCK).exists():
                return folder, lock
            os.close(lock)


def _new_lock(folder: Path) -> int:
    return os.open(folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)


def _remove_abandoned(base: Path) -> None:
    """Remove this user's folders that no process holds any more."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it has just been removed, or is somebody else's
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            if not (folder / LOCK).exists():
                if not _lost_its_lock(folder, status):
                    continue
                os.close(_new_lock(folder))
            _remove_unless_held(folder / LOCK)


def _lost_its_lock(folder: Path, status: os.stat_result) -> bool:
    """Whether a folder without a lock is the rest of one that was made here, and no process of Ray listens in it."""
    return (
        _NAME.fullmatch(folder.name) is not None
        and stat.S_IMODE(status.st_mode) == 0o700
        and time.time() - status.st_mtime > _NEW_S
        and all(_CONTENTS.fullmatch(path.name) for path in folder.iterdir())
        and not any(map(_listens, folder.glob("*/session_*/sockets/*")))
    )


def _listens(path: Path) -> bool:
    try:
        knock(str(path))
    except OSError:
        return False
    return True


def _remove_unless_held(lock: Path) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_folder(lock.parent)
    except BlockingIOError:
        pass  # its owner is alive
    finally:
        os.close(descriptor)
