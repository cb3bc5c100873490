"""How much memory this machine has left, and giving back what loading has used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt(3)
DONTNEED = 4  # of madvise(2)


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


def keep_giving_back() -> None:
    """What ``given_back`` does in its block, from now on: for a model whose layers come and go at
    every pass. Freed blocks that were kept would grow to the size of the model."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 20)


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


def let_go(files: Collection[Path]) -> int:
    """Pages of these files that this process has mapped leave its memory; how many bytes were
    mapped. Whoever looks again has them read again, so it is for files that were copied from.

    While a model is read its files are mapped and every page that was touched counts as this
    process's own, up to the size of the files on top of what is made of them. Only on Linux.
    """
    if sys.platform != "linux":
        return 0
    names, found = {str(f.resolve()) for f in files}, 0
    with suppress(OSError, AttributeError, ValueError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and parts[5] in names:
                start, end = (int(x, 16) for x in parts[0].split("-"))
                madvise(start, end - start, DONTNEED)
                found += end - start
    return found
