"""A data folder as one file, taken while a server writes to it; and back.

The file is a tar: the database as it was at one moment (SQLite's own backup), then the files of
every branch in it, then a list with a SHA-256 of each. A branch that was running is in it up to
the last whole record of its journal, and counts as interrupted when the backup is opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tokenscope import disk
from tokenscope.errors import InputError, StoreGone
from tokenscope.store import journal
from tokenscope.store.database import FILE, connect, failure
from tokenscope.store.migrations import STEPS, check_known
from tokenscope.store.shelf import arrays_file, journal_file

LIST = "backup.json"
MEMBER = re.compile(r"tokenscope\.sqlite3|traces/[0-9a-z]{1,64}\.(safetensors|journal)")
PIECE = 1 << 20
MOST_LIST = 64 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """What went into a backup, or came out of one."""

    sessions: int
    branches: int
    bytes: int


def backup(folder: Path, target: Path) -> Saved:
    """Write a backup of a data folder, whole or not at all. A server may be using the folder.

    Raises StoreError (no such folder, disk full), InputError when ``target`` is there already.
    """
    if target.exists():
        raise InputError("file", f"{target} is there already")
    if not (folder / FILE).is_file():
        raise StoreGone(folder / FILE)
    with disk.reported(target), tempfile.TemporaryDirectory(dir=target.parent) as place:
        copy = Path(place) / FILE
        branches, sessions = _database(folder / FILE, copy)
        whole = Path(place) / "whole"
        digests: dict[str, str] = {}
        with tarfile.open(whole, "w") as tar:
            digests[FILE] = _add(tar, FILE, copy, None)
            for node in branches:
                if (found := _branch(tar, folder / "traces", node)) is not None:
                    digests |= found
            about = {"schema": len(STEPS), "files": digests}
            data = json.dumps(about).encode()
            tar.addfile(_entry(LIST, len(data)), io.BytesIO(data))
        with open(whole, "rb") as made:
            disk.write_whole(target, iter(lambda: made.read(PIECE), b""))
    return Saved(sessions, len(branches), target.stat().st_size)


def _database(file: Path, copy: Path) -> tuple[list[str], int]:
    """A copy of one moment. Returns the ids of its branches, and how many sessions it has."""
    try:
        with closing(connect(file)) as source, closing(sqlite3.connect(copy)) as into:
            check_known(source, file)
            source.backup(into)
            into.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            nodes = [r[0] for r in into.execute("SELECT id FROM nodes ORDER BY created, id")]
            return nodes, int(into.execute("SELECT count(*) FROM sessions").fetchone()[0])
    except sqlite3.Error as error:
        raise failure(error, file) from error


def _branch(tar: tarfile.TarFile, traces: Path, node: str) -> dict[str, str] | None:
    """Put the file of a branch in. None when it was purged since the copy was made."""
    arrays, log_file = arrays_file(traces, node), journal_file(traces, node)
    # a run may end while we look: its journal goes when its arrays are there
    for file, size in ((arrays, None), (log_file, -1), (arrays, None)):
        with suppress(FileNotFoundError):
            name = f"traces/{file.name}"
            return {name: _add(tar, name, file, journal.read(file).end if size else None)}
    return None


def _add(tar: tarfile.TarFile, name: str, file: Path, size: int | None) -> str:
    with open(file, "rb") as source:
        entry = _entry(name, os.fstat(source.fileno()).st_size if size is None else size)
        digest = hashlib.sha256()
        tar.addfile(entry, _Hashed(source, digest))  # type: ignore[arg-type]
    return digest.hexdigest()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry


class _Hashed:
    """A file that is digested while it is read."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        self._file, self._digest = file, digest

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data


def restore(source: Path, folder: Path) -> Saved:
    """Unpack a backup into a data folder that is not there yet, or empty. All of it or nothing.

    Every file is checked against its digest first. Raises InputError when the backup is not
    whole or is none, StoreError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("--data", f"{folder} is not empty: a backup is restored into a new folder")
    disk.make_folder(folder.absolute().parent)
    with (
        disk.reported(folder),
        tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".restore-") as place,
    ):
        made = Path(place) / "data"
        (made / "traces").mkdir(parents=True, mode=0o700)
        try:
            with tarfile.open(source, "r:") as tar:
                digests = dict(_unpacked(tar, made, source))
                about = json.loads(digests.pop(LIST))
                if not isinstance(about, dict) or about.get("files") != digests:
                    raise InputError(str(source), "its files are not those that were put in")
        except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
            raise InputError(str(source), f"is no whole backup ({type(error).__name__})") from error
        with closing(sqlite3.connect(made / FILE)) as connection:
            try:
                check_known(connection, source)
                sessions, branches = connection.execute(
                    "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM nodes)"
                ).fetchone()
                saved = Saved(sessions, branches, source.stat().st_size)
            except sqlite3.Error as error:
                raise failure(error, source) from error
        disk.sync_folder(made / "traces")
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)
        disk.sync_folder(folder.absolute().parent)
    return saved


def _unpacked(tar: tarfile.TarFile, made: Path, source: Path) -> Iterator[tuple[str, str]]:
    """Write the members out; name and digest of each, and the text of the list."""
    for entry in tar:
        data = tar.extractfile(entry) if entry.isreg() else None
        if data is None or (entry.name != LIST and not MEMBER.fullmatch(entry.name)):
            raise InputError(
                str(source), f"holds {entry.name[:80]!r}, which is no part of a backup"
            )
        if entry.name == LIST:
            if entry.size > MOST_LIST:
                raise InputError(str(source), "its list is too large")
            yield LIST, data.read().decode()
            continue
        target, digest = made / entry.name, hashlib.sha256()

        def pieces(data: object = data, digest: hashlib._Hash = digest) -> Iterator[bytes]:
            while piece := data.read(PIECE):  # type: ignore[attr-defined]
                digest.update(piece)
                yield piece

        disk.write_whole(target, pieces())
        yield entry.name, digest.hexdigest()
