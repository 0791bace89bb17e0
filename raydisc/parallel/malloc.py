"""Making the host's allocator return freed memory to the system."""

import ctypes
import ctypes.util

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Option numbers from ``malloc.h``."""

_THRESHOLD_BYTES = 2**16


def return_freed_memory() -> None:
    """Return the memory of gathered weights to the system as soon as it is freed; only glibc needs this.

    By default glibc's allocator keeps what sharded layers free, until a worker holds as much as the whole model.
    """
    library = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(library), "mallopt", None) if library else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_M_ARENA_MAX, 1)
