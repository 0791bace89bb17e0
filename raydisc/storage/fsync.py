"""Making what was written last."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file's contents, or the names in a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
