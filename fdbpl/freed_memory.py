"""Reuse of freed memory between training steps.

A step on a CPU allocates and frees gigabytes in large blocks, which Linux maps page by page each time: with 1000
classes this takes 40 % of the step.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def keep_freed_memory() -> None:
    """Make glibc keep large blocks in its heap, so that the process stays as large as its largest step.

    Nothing happens with another C library, or where the user has set glibc's own `MALLOC_` variables.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
