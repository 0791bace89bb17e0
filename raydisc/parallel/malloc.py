"""What the host's allocator keeps of memory that was freed."""

import ctypes
import ctypes.util

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Of ``malloc.h``."""

_THRESHOLD_BYTES = 2**16


def return_freed_memory() -> None:
    """Give every gathered weight back to the system when it is freed (glibc only; elsewhere nothing to do).

    Left to itself the allocator keeps what sharded layers free, until a worker has as much as the whole model.
    """
    library = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(library), "mallopt", None) if library else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_M_ARENA_MAX, 1)
