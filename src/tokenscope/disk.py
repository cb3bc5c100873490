"""Every call that changes the disk, and what to say when one fails.

All writes of the store and of ``trace.save`` go through here: a short write is gone on with, a
failed call becomes an error that names the file, the cause and the remedy, and a test can make
any single call fail.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tokenscope.errors import (
    StoreError,
    StoreFailing,
    StoreFull,
    StoreGone,
    StoreLocked,
    StoreReadOnly,
)

_CAUSES: dict[int, type[StoreError]] = {
    errno.ENOSPC: StoreFull, errno.EDQUOT: StoreFull, errno.EFBIG: StoreFull,
    errno.EROFS: StoreReadOnly, errno.EACCES: StoreReadOnly, errno.EPERM: StoreReadOnly,
    errno.ENOENT: StoreGone, errno.ENOTDIR: StoreGone, errno.ESTALE: StoreGone,
    errno.EISDIR: StoreGone, errno.EEXIST: StoreGone, errno.ENODEV: StoreGone,
    errno.EAGAIN: StoreLocked, errno.EBUSY: StoreLocked,
}  # fmt: skip


def failure(error: OSError, path: Path) -> StoreError:
    """What a failed call means for who uses the store. What is not known counts as failing."""
    reason = error.strerror or type(error).__name__
    return _CAUSES.get(error.errno or 0, StoreFailing)(path, reason)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError about ``path``."""
    try:
        yield
    except OSError as error:
        raise failure(error, path) from error


def make_folder(path: Path) -> None:
    """A folder for the owner alone (0700), if it is not there. Raises StoreError."""
    with reported(path):
        if not path.is_dir():
            os.makedirs(path, mode=0o700, exist_ok=True)


def create(path: Path, append: bool = False, mode: int = 0o600) -> int:
    """A descriptor of a file (for the owner alone): a new, empty one, or at its end."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
    with reported(path):
        return os.open(path, flags, mode)


def write(file: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of it: a write may take less than it is given (disk nearly full, a signal)."""
    rest = memoryview(data).cast("B")
    with reported(path):
        while rest:
            done = os.write(file, rest)
            if done == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[done:]


def sync(file: int, path: Path, growing: bool = False) -> None:
    """Wait until what was written is on the disk. ``growing``: times and the like may wait."""
    with reported(path):
        if growing and hasattr(os, "fdatasync"):  # macOS has none
            os.fdatasync(file)
        else:
            os.fsync(file)


def truncate(file: int, size: int, path: Path) -> None:
    """Cut a file back to ``size`` bytes."""
    with reported(path):
        os.ftruncate(file, size)


def remove(path: Path) -> None:
    """Take a file away; one that is not there is no error."""
    with reported(path), suppress(FileNotFoundError):
        os.unlink(path)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    with reported(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: Path, pieces: Iterable[bytes | memoryview], mode: int = 0o600) -> None:
    """A file that is there whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises StoreError; the file that was there before is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    file = create(temporary, mode=mode)
    try:
        try:
            for piece in pieces:
                write(file, piece, temporary)
            sync(file, temporary)
        finally:
            os.close(file)
        with reported(path):
            os.replace(temporary, path)
    except BaseException:
        with suppress(StoreError):
            remove(temporary)
        raise
    sync_folder(path.parent)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/tokenscope``, by default below ``~/.cache``: what can be made again."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "tokenscope"


def free(path: Path) -> int | None:
    """Free bytes of the disk that holds ``path``; None where that cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
