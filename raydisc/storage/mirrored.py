"""A storage behind an address, with a copy on this machine of what it has used."""

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
"""Names the folder of the copies; else they are in the system's folder for temporary files."""

_AT_ONCE = 8


class MirroredStorage(Storage):
    """Files behind an address. What is not there does not count, whatever lies on this machine.

    Args:
        folder: where copies are on this machine; files are written there first, and then published.
        remote: the address.
        inside: the folder behind the address that this is, with a slash at its end.
        times: of leases.
    """

    everywhere = False

    def __init__(self, folder: Path, remote: Remote, inside: str = "", times: LeaseTimes = USUAL_TIMES) -> None:
        """Touch nothing."""
        super().__init__(folder)
        self._remote, self._inside, self._times = remote, inside, times

    def __str__(self) -> str:
        """The address."""
        place, mark, query = self._remote.address.partition("?")
        return f"{place.rstrip('/')}/{self._inside}".rstrip("/") + mark + query

    def __truediv__(self, name: str) -> Self:
        """A folder of the storage, as a storage."""
        return type(self)(self.folder / name, self._remote, f"{self._inside}{name}/", self._times)

    def absolute(self) -> Self:
        """The same, as an address is."""
        return self

    @property
    def parent(self) -> Self:
        """The folder that this one is in."""
        before, _, _ = self._inside.rstrip("/").rpartition("/")
        return type(self)(self.folder.parent, self._remote, f"{before}/" if before else "", self._times)

    def has(self, name: str) -> bool:
        """Whether the storage has a file."""
        return self._remote.size(self._inside + name) is not None

    def size(self, name: str) -> int:
        """Bytes of a file that the storage has."""
        return self._remote.size(self._inside + name) or 0

    def read(self, name: str) -> bytes | None:
        """A small file's content as it is now; None where the storage has no such file."""
        return self._remote.read(self._inside + name)

    def fetch(self, names: Sequence[str]) -> list[Path]:
        """Have files that never change on this machine; a file that is there already is not asked for again."""
        missing = [name for name in names if not self.path(name).is_file()]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._download, missing))
        return [self.path(name) for name in names]

    def fetch_again(self, name: str = "") -> None:
        """Have a file, or the files of a folder, on this machine as the storage has them now, if it has them."""
        if self.has(name):
            self._download(name)
            return
        inside = self._remote.names(self._inside + name, recursive=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._download, [f"{name}/{it}".lstrip("/") for it in inside]))

    def _download(self, name: str) -> None:
        self._remote.download(self._inside + name, self.path(name))

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, by alphabet; none where there is no such folder."""
        return self._remote.names(self._inside + folder)

    def folders(self) -> list[str]:
        """Names of the folders directly in the storage, by alphabet."""
        return self._remote.folders(self._inside)

    def bytes_under(self, folder: str) -> int:
        """Bytes of all files in a folder and in those under it."""
        return self._remote.bytes_under(self._inside + folder)

    def publish(self, name: str, last: str = "") -> None:
        """Let everybody see a file, or the files of a folder, as they are on this machine."""
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
        """Have nobody see other files in a folder than these, by their names in it."""
        for name in set(self._remote.names(self._inside + folder, recursive=True)) - set(but):
            self._remote.remove(f"{self._inside}{folder}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, here and for everybody."""
        self._remote.remove(self._inside + name)
        super().remove(name)

    @contextmanager
    def holding(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold a name: against this machine's processes by a lock, against other machines' by a lease."""
        with super().holding(name, wait), leased(self._remote, self._inside + name, wait, self._times):
            yield


def cache_folder(address: str) -> Path:
    """This machine's folder for the copies of a storage; nobody else may write there.

    Raises:
        InputError: it belongs to somebody else, or cannot be made.
    """
    named = os.environ.get(CACHE_VARIABLE)
    top = Path(named).expanduser().absolute() if named else Path(tempfile.gettempdir()) / f"raydisc-{os.getuid()}"
    folder = top / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or top.is_symlink() and not named:
            raise InputError(f"{CACHE_VARIABLE}: '{folder}' belongs to somebody else; name another folder")
    except OSError as error:
        raise InputError(
            f"{CACHE_VARIABLE}: '{folder}' cannot be made ({error.strerror}); name another folder"
        ) from error
    return folder
