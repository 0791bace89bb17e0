"""From what a user calls the storage to the storage."""

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raydisc.errors import InputError
from raydisc.storage.folder import Storage
from raydisc.storage.masking import has_credentials, masked
from raydisc.storage.mirrored import MirroredStorage, cache_folder
from raydisc.storage.remote import Remote


def open_storage(where: str) -> Storage:
    """The storage that a path or an address names.

    Args:
        where: a folder that every node sees, or an address such as ``s3://BUCKET/FOLDER``.

    Raises:
        InputError: the address is none that can be opened, or carries credentials.
        StorageError: nobody answers there.
    """
    if "://" not in where:
        return Storage(Path(where).expanduser())
    if has_credentials(where):
        raise InputError(
            f"storage: '{masked(where)}' carries credentials, which would be seen in logs and files; give them in the "
            "environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or as your cloud has it"
        )
    if where.startswith("file://"):
        return Storage(Path(unquote(urlsplit(where).path)))
    place, mark, query = where.partition("?")
    return _opened(place.rstrip("/") + mark + query)


def folder_here(where: str) -> Path:
    """The folder on this machine in which files of a storage are written; nothing is asked of the storage."""
    return cache_folder(where) if "://" in where else Path(where).expanduser().absolute()


def storage_at(place: "Storage | Path") -> Storage:
    """A storage, given as such or as its folder."""
    return place if isinstance(place, Storage) else Storage(Path(place))


@cache
def _opened(address: str) -> Storage:
    """Once in a process, since connecting takes its time."""
    return MirroredStorage(cache_folder(address), Remote(address))
