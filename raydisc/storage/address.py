"""Opening the storage that a setting or an option names."""

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raydisc.errors import InputError
from raydisc.storage.folder import Storage
from raydisc.storage.masking import has_credentials, masked
from raydisc.storage.mirrored import MirroredStorage, cache_folder
from raydisc.storage.remote import Remote


def open_storage(where: str) -> Storage:
    """Open the storage that a path or an address names.

    Args:
        where: A folder that every node sees, or an address such as ``s3://BUCKET/FOLDER``.

    Raises:
        InputError: The address cannot be opened, or it carries credentials.
        StorageError: No service answers at the address.
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
    """Return the folder of this machine in which a storage's files are written, without contacting the storage."""
    return cache_folder(where) if "://" in where else Path(where).expanduser().absolute()


def storage_at(place: "Storage | Path") -> Storage:
    """Return a storage that is given as such or as its folder."""
    return place if isinstance(place, Storage) else Storage(Path(place))


@cache
def _opened(address: str) -> Storage:
    """Connect to an address, once in a process, since connecting takes a while."""
    return MirroredStorage(cache_folder(address), Remote(address))
