"""What is kept of every case, and the journal that an audit can be resumed from.

``records.jsonl`` in the output folder: the first line says what the audit is (settings, digests),
every further one holds a case with all its samples. A line is written whole and synced before the
case counts as done, by one process alone. After a kill the last line may be torn: it is cut off
and its case is done again, with the same seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenscope import disk
from tokenscope.errors import InputError, StoreError

NAME = "records.jsonl"
FORMAT = 1
# settings that may differ between a run and its resumption: they change no result
_FREE = ("processes",)


class Records:
    """The journal of one audit, open for one writer."""

    def __init__(self, folder: Path, header: Mapping[str, Any], fresh: bool = False) -> None:
        """Open or begin. Raises InputError when the folder holds another audit, StoreError."""
        self.path = folder / NAME
        self.done: set[str] = set()
        plain = json.loads(json.dumps({"format": FORMAT, **header}))
        if fresh and self.path.exists():
            disk.remove(self.path)
        held = self._recover(plain) if self.path.exists() else False
        self._file = disk.create(self.path, append=True)
        if not held:
            self._write({"kind": "audit", **plain})

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a case for good. Raises StoreError."""
        self._write({"kind": "case", **record})
        self.done.add(key(str(record["case"])))

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _write(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, allow_nan=False, ensure_ascii=True) + "\n"
        disk.write(self._file, line.encode(), self.path)
        disk.sync(self._file, self.path, growing=True)

    def _recover(self, header: Mapping[str, Any]) -> bool:
        """Cut off a torn line, check the header, note what is done. False: nothing is left."""
        size = whole = 0
        first: Any = None
        with open(self.path, "rb") as opened:
            for line in opened:
                size += len(line)
                if not line.endswith(b"\n"):
                    break
                try:
                    value = json.loads(line)
                except ValueError:
                    break
                whole += len(line)
                if first is None:
                    first = value
                elif value.get("kind") == "case":
                    self.done.add(key(str(value["case"])))
        if first is not None and _same(first) != _same(header):
            raise InputError("--out", "holds another audit (other settings, model, checks or "
                             "cases); choose another folder, or say --fresh")  # fmt: skip
        if whole < self.path.stat().st_size:
            file = disk.create(self.path, append=True)
            try:
                disk.truncate(file, whole, self.path)
                disk.sync(file, self.path)
            finally:
                os.close(file)
        return first is not None


def read_records(folder: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The header of an audit, and its cases one at a time. Raises InputError."""
    path = folder / NAME
    try:
        with open(path, "rb") as opened:
            header: dict[str, Any] = json.loads(opened.readline())
    except (OSError, ValueError):
        raise InputError("--out", f"holds no {NAME} of an audit") from None
    return header, _cases(path)


def _cases(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as opened:
        for line in opened:
            with suppress(ValueError):
                value: dict[str, Any] = json.loads(line)
                if value.get("kind") == "case":
                    yield value


def key(case: str) -> str:
    """A short name of a case's id: a million of them fit into memory."""
    return hashlib.blake2b(case.encode("utf-8", "replace"), digest_size=9).hexdigest()


def _same(header: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in header.items() if k not in ("kind", "settings", "started")}
    settings = header.get("settings", {})
    return {**kept, "settings": {k: v for k, v in settings.items() if k not in _FREE}}


def write_text(path: Path, text: str) -> None:
    """A text file that is there whole or not at all. Raises StoreError."""
    if path.is_dir():
        raise StoreError(path, "a folder stands in the way")
    disk.write_whole(path, [text.encode("utf-8", "replace")])
