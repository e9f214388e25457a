"""Keeping the memory that one block of records frees for the next one.

A block's records are made and freed together, a few megabytes at a time. By default glibc gives
that back to the kernel after each block and asks for it again, page by page, for the next: about a
twelfth of the time of a validation.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD = -1, -2
"""Parameters of mallopt, as malloc.h numbers them."""

_KEPT_BYTES = 64 << 20
"""Free memory at the heap's end that is not given back; several times what a block needs."""

_ASKED_BYTES = 16 << 20
"""Memory asked for at a time, beyond what is needed."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory; False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    kept = library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    return bool(kept and library.mallopt(_TOP_PAD, _ASKED_BYTES))
