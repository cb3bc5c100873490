"""The data folder: who holds it, whether it is still there, and the SQLite database in it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tokenscope import disk
from tokenscope.errors import (
    StoreDamaged,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreGone,
    StoreLocked,
    StoreReadOnly,
)

FILE = "tokenscope.sqlite3"
BUSY_MS = 10_000
IDLE = 8
# primary result codes: https://www.sqlite.org/rescode.html
_CAUSES: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_FULL: StoreFull, sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_LOCKED: StoreLocked, sqlite3.SQLITE_PROTOCOL: StoreLocked,
    sqlite3.SQLITE_READONLY: StoreReadOnly, sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_AUTH: StoreReadOnly, sqlite3.SQLITE_CANTOPEN: StoreGone,
    sqlite3.SQLITE_CORRUPT: StoreDamaged, sqlite3.SQLITE_NOTADB: StoreDamaged,
    sqlite3.SQLITE_ERROR: StoreDamaged, sqlite3.SQLITE_IOERR: StoreFailing,
}  # fmt: skip
NO_ROOM = 64 << 10  # what SQLite's shared memory file needs to begin with


def default_folder() -> Path:
    """``$XDG_DATA_HOME/tokenscope``, by default ``~/.local/share/tokenscope``."""
    home = os.environ.get("XDG_DATA_HOME", "")
    # the XDG rules: a relative path is to be ignored
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share"
    return base / "tokenscope"


class Folder:
    """The data folder, held by this process alone until :meth:`release`. Mode 0700.

    Raises StoreError when it cannot be made, or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traces = path / "traces"
        disk.make_folder(path)
        with disk.reported(path):
            path.chmod(0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # the kernel lets go of it when the process dies, however it dies
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 32).decode("ascii", "replace").strip()
            os.close(self._lock)
            by = f"process {holder}, or use another folder with --data"
            raise StoreLocked(
                path, by if holder.isdigit() else "use another with --data"
            ) from error
        try:
            with suppress(OSError):  # only says who holds it
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, str(os.getpid()).encode(), 0)
            disk.make_folder(self.traces)
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Raises StoreGone when the folder was moved away or replaced while we hold it.

        Without this, SQLite goes on writing into a file that nobody will ever find again.
        """
        try:
            here, held = os.stat(self.path / "lock"), os.fstat(self._lock)
        except OSError as error:
            raise StoreGone(self.path, error.strerror or "") from error
        if (here.st_dev, here.st_ino) != (held.st_dev, held.st_ino):
            raise StoreGone(self.path, "another folder stands in its place")
        if not self.traces.is_dir():
            raise StoreGone(self.traces)

    def release(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Database:
    """SQLite in WAL mode; every commit is on the disk before it returns (synchronous=FULL).

    One writer at a time: ``write`` takes SQLite's own lock at its start (BEGIN IMMEDIATE), so that
    two threads wait for one another rather than fail at commit. Every error is a StoreError; the
    connection it came from is thrown away, so that the next attempt starts afresh.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        new = not file.exists()
        if new:
            os.close(disk.create(file, append=True))
        self._inode = os.stat(file).st_ino
        try:
            with self.read():
                pass
        except StoreError:
            if new:  # nothing can be in it
                with suppress(StoreError):
                    disk.remove(file)
            raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view; nothing is written."""
        with self._connection("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing, durable when the block ends."""
        with self._connection("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with self._guard:
                held = self._idle.pop() if self._idle else None
            connection = held if held is not None else connect(self.file, self._inode)
            try:
                connection.execute(begin)
                yield connection
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except BaseException as error:
                if isinstance(error, sqlite3.Error):
                    connection.close()  # rolls back
                    raise
                self._give_back(connection)
                raise
            self._give_back(connection)
        except sqlite3.Error as error:
            raise failure(error, self.file) from error

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._guard:
            if len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._guard:
            held, self._idle = self._idle, []
        for connection in held:
            connection.close()


def connect(file: Path, inode: int | None = None) -> sqlite3.Connection:
    """A connection that says BEGIN by itself never. Raises sqlite3.Error, StoreGone."""
    if inode is not None:
        with disk.reported(file):
            if os.stat(file).st_ino != inode:
                raise StoreGone(file, "another file stands in its place")
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None,
        check_same_thread=False, timeout=BUSY_MS / 1000,
    )  # fmt: skip
    connection.row_factory = sqlite3.Row
    try:
        for pragma in (
            "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def failure(error: sqlite3.Error, file: Path) -> StoreError:
    """What a failed call of SQLite means for who uses the store."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = _CAUSES.get(code & 0xFF, StoreFailing)
    room = disk.free(file.parent)
    # its shared memory and journal files cannot be made on a full disk: that has codes of its own
    if kind in (StoreFailing, StoreGone) and room is not None and room < NO_ROOM:
        kind = StoreFull
    elif kind is StoreGone and file.exists():
        kind = StoreFailing if os.access(file, os.R_OK | os.W_OK) else StoreReadOnly
    return kind(file, str(error)[:200])
