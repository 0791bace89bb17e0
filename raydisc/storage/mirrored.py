"""A storage behind an address, with local copies of the files that this machine has used."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from raydisc.errors import InputError
from raydisc.storage.folder import Storage
from raydisc.storage.lease import USUAL_TIMES, LeaseTimes, leased
from raydisc.storage.remote import Remote

CACHE_VARIABLE = "RAYDISC_CACHE"
"""The environment variable that names the folder of the copies, by default one in the temporary folder."""

_AT_ONCE = 8


class MirroredStorage(Storage):
    """Files behind an address; a file that is only on this machine does not count.

    Args:
        folder: The folder of the copies on this machine; files are written there first and then published.
        remote: The files behind the address.
        inside: The folder below the address that this storage stands for, with a slash at its end.
        times: How long leases live, and how often they are renewed and read.
    """

    everywhere = False

    def __init__(self, folder: Path, remote: Remote, inside: str = "", times: LeaseTimes = USUAL_TIMES) -> None:
        """Create a storage; nothing is read or written yet."""
        super().__init__(folder)
        self._remote, self._inside, self._times = remote, inside, times

    def __str__(self) -> str:
        """Return the address."""
        place, mark, query = self._remote.address.partition("?")
        return f"{place.rstrip('/')}/{self._inside}".rstrip("/") + mark + query

    def __truediv__(self, name: str) -> Self:
        """Return a folder of the storage, itself as a storage."""
        return type(self)(self.folder / name, self._remote, f"{self._inside}{name}/", self._times)

    def absolute(self) -> Self:
        """Return the storage itself: an address does not depend on the current folder."""
        return self

    @property
    def parent(self) -> Self:
        """The folder that contains this one, as a storage."""
        before, _, _ = self._inside.rstrip("/").rpartition("/")
        return type(self)(self.folder.parent, self._remote, f"{before}/" if before else "", self._times)

    def has(self, name: str) -> bool:
        """Whether the storage has a file of this name."""
        return self._remote.size(self._inside + name) is not None

    def size(self, name: str) -> int:
        """Return the size of an existing file in bytes."""
        return self._remote.size(self._inside + name) or 0

    def read(self, name: str) -> bytes | None:
        """Return the current content of a small file, or None if the storage has no such file."""
        return self._remote.read(self._inside + name)

    def fetch(self, names: Sequence[str]) -> list[Path]:
        """Bring files that never change to this machine, unless they are there already; return their paths."""
        missing = [name for name in names if not self.path(name).is_file()]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._download, missing))
        return [self.path(name) for name in names]

    def fetch_again(self, name: str = "") -> None:
        """Bring the current version of a file, or of a folder's files, to this machine, if the storage has them."""
        if self.has(name):
            self._download(name)
            return
        inside = self._remote.names(self._inside + name, recursive=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._download, [f"{name}/{it}".lstrip("/") for it in inside]))

    def _download(self, name: str) -> None:
        self._remote.download(self._inside + name, self.path(name))

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files directly in a folder; an empty list if there is no such folder."""
        return self._remote.names(self._inside + folder)

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in the storage."""
        return self._remote.folders(self._inside)

    def bytes_under(self, folder: str) -> int:
        """Return the bytes of all files in a folder and in the folders below it."""
        return self._remote.bytes_under(self._inside + folder)

    def publish(self, name: str, last: str = "") -> None:
        """Make a file, or the files of a folder, visible to every node as they are on this machine."""
        path = self.path(name)
        if not path.is_dir():
            self._remote.upload(path, self._inside + name)
            return
        files = sorted(str(it.relative_to(path)) for it in path.rglob("*") if it.is_file())
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda it: self._remote.upload(path / it, f"{self._inside}{name}/{it}"), set(files) - {last}))
        if last:
            self._remote.upload(path / last, f"{self._inside}{name}/{last}")

    def forget(self, folder: str, but: Sequence[str]) -> None:
        """Remove the published files of a folder, except those whose names in the folder are in ``but``."""
        for name in set(self._remote.names(self._inside + folder, recursive=True)) - set(but):
            self._remote.remove(f"{self._inside}{folder}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, on this machine and for every node."""
        self._remote.remove(self._inside + name)
        super().remove(name)

    @contextmanager
    def holding(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold a name: among this machine's processes by a lock, among machines by a lease."""
        with super().holding(name, wait), leased(self._remote, self._inside + name, wait, self._times):
            yield


def cache_folder(address: str) -> Path:
    """Make and return this machine's folder for the copies of a storage, which only this user may write to.

    Raises:
        InputError: The folder belongs to another user, or cannot be made.
    """
    named = os.environ.get(CACHE_VARIABLE)
    top = Path(named).expanduser().absolute() if named else Path(tempfile.gettempdir()) / f"raydisc-{os.getuid()}"
    folder = top / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or top.is_symlink() and not named:
            raise InputError(f"{CACHE_VARIABLE}: '{folder}' belongs to another user; name another folder")
    except OSError as error:
        raise InputError(
            f"{CACHE_VARIABLE}: '{folder}' cannot be made ({error.strerror}); name another folder"
        ) from error
    return folder
