"""How much memory this machine has left, and giving back what loading has used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt(3)


def free() -> int:
    """Bytes that this process may still take, of the machine or of its container."""
    left = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):
        most = (GROUP / "memory.max").read_text().strip()
        if most != "max":
            used = int((GROUP / "memory.current").read_text())
            left = min(left, max(0, int(most) - used + _cached()))
    return left


def _cached() -> int:
    """File pages of the container that would be dropped first."""
    with suppress(OSError, ValueError):
        for line in (GROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0


@contextmanager
def given_back() -> Iterator[None]:
    """Large blocks that are freed in the block go back to the system at once.

    glibc keeps freed blocks of up to 32 MB for later; while a model is loaded and its matrices are
    joined, that is up to a third of the model on top. Elsewhere than on glibc this does nothing.
    """
    libc = None
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.malloc_trim  # noqa: B018 (not there on musl)
            libc.mallopt(MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        if libc is not None:
            with suppress(AttributeError):
                libc.malloc_trim(0)
                libc.mallopt(MMAP_THRESHOLD, 32 << 20)
                libc.mallopt(TRIM_THRESHOLD, 64 << 20)
