"""The data folder: who holds it, and the SQLite engine in it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError

from tokenscope.errors import StoreError
from tokenscope.store.migrations import check_known, migrate

FILE = "tokenscope.sqlite3"


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
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: cannot be used as data folder ({error.strerror})") from error
        try:
            # the kernel lets go of it when the process dies, however it dies
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 32).decode("ascii", "replace").strip()
            os.close(self._lock)
            by = f" (process {holder})" if holder.isdigit() else ""
            raise StoreError(
                f"{path}: another TokenScope{by} has this data folder open; stop it, or give "
                "this one a folder of its own with --data"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Database:
    """SQLite in WAL mode; every commit is on the disk before it returns (synchronous=FULL).

    One writer at a time: ``write`` takes SQLite's own lock at its start (BEGIN IMMEDIATE), so that
    two threads wait for one another rather than fail at commit.

    Raises StoreError when the file is damaged, or newer than this program (it is left as it is).
    """

    def __init__(self, file: Path) -> None:
        new = not file.exists()
        if new:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            if not new:
                refuse_newer(file)
            self._engine = _engine(file)
            with self.write() as connection:
                migrate(connection)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise StoreError(f"{file}: is no TokenScope database, or is damaged") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing is written."""
        with self._engine.connect() as connection:
            connection.execute(text("BEGIN"))
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: all of it or nothing, durable when the block ends."""
        with self._engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def refuse_newer(file: Path) -> None:
    """Look before touching: read-only, so that a newer database stays as it is."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        check_known(int(connection.execute("PRAGMA user_version").fetchone()[0]))
    finally:
        connection.close()


def _engine(file: Path) -> Engine:
    made = create_engine(f"sqlite:///{file.absolute()}", pool_size=8, max_overflow=56)

    @event.listens_for(made, "connect")
    def _prepare(raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        for pragma in (
            "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON",
            "busy_timeout = 10000", "trusted_schema = OFF",
        ):  # fmt: skip
            raw.execute(f"PRAGMA {pragma}")

    return made
