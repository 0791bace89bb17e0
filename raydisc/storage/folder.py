"""A storage that is a folder which every node sees."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self


class Held(RuntimeError):
    """Somebody else holds a name, and the caller does not wait."""


class Storage:
    """Files by name, such as ``artifacts/KEY/manifest.json``, that every node reads and writes.

    Each file has its place on this machine, where it is written and read. Here that is the storage itself;
    ``MirroredStorage`` copies it from and to where it is kept.

    Args:
        folder: where files are on this machine.
    """

    everywhere = True
    """Whether what lies in `folder` is seen by every node as it is."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing."""
        self.folder = folder

    def __str__(self) -> str:
        """As people give it."""
        return str(self.folder)

    def __truediv__(self, name: str) -> Self:
        """A folder of the storage, as a storage."""
        return type(self)(self.folder / name)

    def absolute(self) -> Self:
        """The same, wherever a process is."""
        return type(self)(self.folder.absolute())

    @property
    def parent(self) -> Self:
        """The folder that this one is in."""
        return type(self)(self.folder.parent)

    def path(self, name: str) -> Path:
        """Where a file is on this machine, if it is."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the storage has a file."""
        return self.path(name).is_file()

    def size(self, name: str) -> int:
        """Bytes of a file that the storage has."""
        return self.path(name).stat().st_size

    def read(self, name: str) -> bytes | None:
        """A small file's content as it is now; None where the storage has no such file."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, names: Sequence[str]) -> list[Path]:
        """Have files that never change on this machine; a file that is there already is not asked for again."""
        return [self.path(name) for name in names]

    def fetch_again(self, name: str = "") -> None:
        """Have a file, or the files of a folder, on this machine as the storage has them now, if it has them."""

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, by alphabet; none where there is no such folder."""
        place = self.path(folder)
        return sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else []

    def folders(self) -> list[str]:
        """Names of the folders directly in the storage, by alphabet."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []

    def bytes_under(self, folder: str) -> int:
        """Bytes of all files in a folder and in those under it."""
        return sum(path.stat().st_size for path in self.path(folder).rglob("*") if path.is_file())

    def publish(self, name: str, last: str = "") -> None:
        """Let everybody see a file, or the files of a folder, as they are on this machine.

        Args:
            name: of either.
            last: the file of the folder that makes it count, which comes last.
        """

    def forget(self, folder: str, but: Sequence[str]) -> None:
        """Have nobody see other files in a folder than these, by their names in it."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, here and for everybody."""
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def holding(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold a name against everybody else; a holder that dies frees it.

        Args:
            name: of the file that stands for it.
            wait: until it is free.

        Raises:
            Held: it is not free, and the caller does not wait.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(name) from None
            yield
