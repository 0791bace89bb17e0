"""Making written files survive a power failure."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file's contents, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
