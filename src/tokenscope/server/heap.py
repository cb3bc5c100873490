"""How the C library's allocator behaves in a process with many short threads."""

from __future__ import annotations

import ctypes
import sys

ARENAS = 2
M_ARENA_MAX = -8  # of glibc's malloc.h


def few_arenas() -> bool:
    """Let all threads share two arenas (glibc only; False elsewhere).

    glibc gives new threads arenas of their own, up to eight a core, and each keeps what was freed
    in it. Readers and jobs come and go in threads, so a server would grow by what each arena once
    held. Python's own lock lets hardly two threads allocate at once, so two arenas cost nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS))
    except (AttributeError, OSError):  # another C library
        return False
