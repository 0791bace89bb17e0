"""A storage in a folder that every node sees."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self


class Held(RuntimeError):
    """Another holder has a name that the caller does not wait for."""


class Storage:
    """Files by name, such as ``artifacts/KEY/manifest.json``, that every node reads and writes.

    Each file has a path on this machine, where it is written and read. Here these paths are the storage itself, while
    ``MirroredStorage`` copies files between them and an address.

    Args:
        folder: The folder of the files on this machine.
    """

    everywhere = True
    """Whether every node sees the files of ``folder`` as they are there."""

    def __init__(self, folder: Path) -> None:
        """Create a storage; nothing is read or written yet."""
        self.folder = folder

    def __str__(self) -> str:
        """Return the folder as people write it."""
        return str(self.folder)

    def __truediv__(self, name: str) -> Self:
        """Return a folder of the storage, itself as a storage."""
        return type(self)(self.folder / name)

    def absolute(self) -> Self:
        """Return the same storage with a path that does not depend on the current folder."""
        return type(self)(self.folder.absolute())

    @property
    def parent(self) -> Self:
        """The folder that contains this one, as a storage."""
        return type(self)(self.folder.parent)

    def path(self, name: str) -> Path:
        """Return the path that a file has on this machine, whether or not it exists."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the storage has a file of this name."""
        return self.path(name).is_file()

    def size(self, name: str) -> int:
        """Return the size of an existing file in bytes."""
        return self.path(name).stat().st_size

    def read(self, name: str) -> bytes | None:
        """Return the current content of a small file, or None if the storage has no such file."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, names: Sequence[str]) -> list[Path]:
        """Bring files that never change to this machine, unless they are there already; return their paths."""
        return [self.path(name) for name in names]

    def fetch_again(self, name: str = "") -> None:
        """Bring the current version of a file, or of a folder's files, to this machine, if the storage has them."""

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files directly in a folder; an empty list if there is no such folder."""
        place = self.path(folder)
        return sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else []

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in the storage."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []

    def bytes_under(self, folder: str) -> int:
        """Return the bytes of all files in a folder and in the folders below it."""
        return sum(path.stat().st_size for path in self.path(folder).rglob("*") if path.is_file())

    def publish(self, name: str, last: str = "") -> None:
        """Make a file, or the files of a folder, visible to every node as they are on this machine.

        Args:
            name: The name of the file or folder.
            last: The file of the folder without which the others do not count; it is published last.
        """

    def forget(self, folder: str, but: Sequence[str]) -> None:
        """Remove the published files of a folder, except those whose names in the folder are in ``but``."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, on this machine and for every node."""
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def holding(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold a name exclusively; the name of a holder that dies becomes free.

        Args:
            name: The name of the file that is locked.
            wait: Whether to wait until the name is free.

        Raises:
            Held: The name is not free, and ``wait`` is false.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(name) from None
            yield
