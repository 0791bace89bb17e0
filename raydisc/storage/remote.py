"""Files behind an address that ``pyarrow.fs`` opens; a file is there as a whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from raydisc.errors import InputError, reason_of
from raydisc.storage.faults import Patience, insist
from raydisc.storage.masking import masked

Answer = TypeVar("Answer")

_CHUNK_BYTES = 2**23
_PATIENCE = Patience()
_FIRST_PATIENCE = Patience(seconds=20.0)
"""The patience of the first contact, which a user at a terminal waits for."""


class Remote:
    """Files by name behind an address.

    Requests that fail are repeated for a while, so a write may happen twice.

    Args:
        address: The address, as ``pyarrow.fs.FileSystem.from_uri`` takes it.
        patience: How long failing requests are repeated.

    Raises:
        InputError: ``pyarrow.fs`` cannot open the address.
        StorageError: No service answers at the address.
    """

    def __init__(self, address: str, patience: Patience = _PATIENCE) -> None:
        """Connect to the address."""
        self.address, self._patience = address, patience
        try:
            self._files, path = insist(lambda: fs.FileSystem.from_uri(address), address, _FIRST_PATIENCE)
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"storage: '{masked(address)}' cannot be opened by pyarrow.fs ({masked(reason_of(error))})"
            ) from None
        self._root = path.rstrip("/")
        if not self._root:
            raise InputError(f"storage: '{masked(address)}' cannot be opened by pyarrow.fs (it names no bucket)")

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, or None if it does not exist."""

        def ask() -> bytes:
            with self._files.open_input_stream(self._path(name)) as source:
                content: bytes = source.read()
                return content

        try:
            return self._insist(ask)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, replacing an earlier one, as a whole or not at all."""

        def ask() -> None:
            self._make_parent(name)
            with self._files.open_output_stream(self._path(name)) as target:
                target.write(content)

        self._insist(ask)

    def download(self, name: str, target: Path) -> bool:
        """Copy a file to this machine as a whole or not at all; return whether it exists."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")

        def ask() -> None:
            with self._files.open_input_file(self._path(name)) as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
                if copy.tell() != source.size():
                    raise OSError(f"{copy.tell()} of the {source.size()} bytes of {name} came")

        try:
            self._insist(ask)
            temporary.replace(target)
        except FileNotFoundError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def upload(self, source: Path, name: str) -> None:
        """Copy a file from this machine, replacing an earlier one."""

        def ask() -> None:
            self._make_parent(name)
            with source.open("rb") as file, self._files.open_output_stream(self._path(name)) as target:
                shutil.copyfileobj(file, target, _CHUNK_BYTES)

        self._insist(ask)

    def names(self, folder: str, recursive: bool = False) -> list[str]:
        """Return the sorted names of a folder's files, relative to the folder."""
        return sorted(self._relative(info, folder) for info in self._infos(folder, recursive) if info.is_file)

    def folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders directly in a folder."""
        return sorted(info.base_name for info in self._infos(folder, False) if info.type == fs.FileType.Directory)

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None if it does not exist."""
        info = self._info(name)
        return info.size if info.is_file else None

    def bytes_under(self, folder: str) -> int:
        """Return the bytes of all files in a folder and in the folders below it."""
        return sum(info.size for info in self._infos(folder, recursive=True) if info.is_file)

    def written_at(self, name: str) -> datetime | None:
        """Return when a file was written by the storage's own clock; None without such a file or such a clock."""
        info = self._info(name)
        return info.mtime if info.is_file else None

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it."""
        path = self._path(name)
        delete = self._files.delete_file if self._info(name).is_file else self._files.delete_dir
        with suppress(FileNotFoundError):  # an earlier attempt, or another process, has removed it
            self._insist(lambda: delete(path))

    def _infos(self, folder: str, recursive: bool) -> list[Any]:
        place = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
        found: list[Any] = self._insist(lambda: self._files.get_file_info(place))
        return found

    def _info(self, name: str) -> Any:
        return self._insist(lambda: self._files.get_file_info(self._path(name)))

    def _relative(self, info: Any, folder: str) -> str:
        return os.path.relpath(info.path, self._path(folder))

    def _make_parent(self, name: str) -> None:
        """Create the parent folder, unless folders are mere parts of names as in object stores."""
        if self._files.type_name not in ("s3", "gcs", "abfs"):
            self._files.create_dir(os.path.dirname(self._path(name)), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _insist(self, ask: Callable[[], Answer]) -> Answer:
        return insist(ask, self.address, self._patience)
