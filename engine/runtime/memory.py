"""The C library's allocator: large blocks go back to the system when they are freed.

By default it learns from the first large block that is freed to keep the next ones of that size: the 19 MiB of one
password check stayed with an idle engine for good, a tenth of all its memory.
"""

import ctypes

_M_TRIM_THRESHOLD = -1  # mallopt(3)
_M_MMAP_THRESHOLD = -3
_LARGE = 4 << 20
# of what is free at the end of the heap; by the default of 128 KiB it would shrink and grow with each order book
_KEPT_FREE = 8 << 20


def return_large_blocks() -> bool:
    """Give blocks of 4 MiB and more back when they are freed; False where the C library knows no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE))
