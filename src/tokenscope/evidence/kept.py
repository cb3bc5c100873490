"""Audits that are kept in one folder: which there are, how each stands, what it gives away.

``ROOT/NAME/`` is the output folder of an audit, made by the server or by the command line. What
the server starts has beside it ``asked.json`` (title, model, sampling), the prompts and the policy
as they were given, and, once it has stopped before its end, ``ended.json``, which says why.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tokenscope import disk
from tokenscope.errors import InputError, NotFound
from tokenscope.evidence.policy import Gate, Policy, policy_text
from tokenscope.evidence.records import NAME

JOURNAL = NAME
ASKED, ENDED, DONE, POLICY = "asked.json", "ended.json", "audit.json", "policy.toml"
PROMPTS = {"jsonl": "prompts.jsonl", "csv": "prompts.csv"}
Status = Literal["done", "cancelled", "failed", "interrupted"]
_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
_MOST_SMALL = 64 << 20
# what may be fetched, by name; nothing else of a folder can be
TYPES = {
    "report.html": "text/html", "report.sarif": "application/sarif+json",
    "report.junit.xml": "application/xml", "report.md": "text/markdown",
    "report.jsonl": "application/x-ndjson", "report.csv": "text/csv",
    "report.parquet.zip": "application/zip", DONE: "application/json",
    JOURNAL: "application/x-ndjson", "errors.jsonl": "application/x-ndjson",
    POLICY: "application/toml", "prompts.jsonl": "application/x-ndjson",
    "prompts.csv": "text/csv",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What was asked for: enough to go on with it. ``sampling``: what goes over the policy."""

    title: str
    model: str
    model_digest: str
    dtype: str
    created: str
    prompts: str
    cases: int
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """An audit in its folder. ``status``: as far as the folder tells; ``error``: why it failed;
    ``summary``: that of ``audit.json``, empty while there is none."""

    name: str
    folder: Path
    status: Status
    asked: Asked | None
    summary: Mapping[str, Any]
    error: str
    created: str

    @property
    def policy(self) -> Policy:
        """The policy that it was asked with; of one that has none beside it, its gates.

        Raises InputError.
        """
        held = _read(self.folder / POLICY)
        if held is not None:
            return policy_text(held)
        gates = [
            Gate(g["figure"], g["operator"], g["limit"]) for g in self.summary.get("gates", ())
        ]
        return Policy(gates=tuple(gates))


def new(root: Path, asked: Asked, prompts: bytes, policy: bytes) -> Path:
    """A folder for an audit that is about to begin. Raises StoreError."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = next(n for k in range(1000) if not (root / (n := f"{stamp}-{k}")).exists())
    folder = root / name
    disk.make_folder(folder)
    disk.write_whole(folder / asked.prompts, [prompts])
    disk.write_whole(folder / POLICY, [policy])
    tell(folder, asked)
    return folder


def tell(folder: Path, asked: Asked) -> None:
    """Keep what was asked for. Raises StoreError."""
    told = json.dumps(asked.__dict__, ensure_ascii=True, allow_nan=False)
    disk.write_whole(folder / ASKED, [told.encode()])


def end(folder: Path, status: Status, error: str = "") -> None:
    """Say that it stopped before its end, and why. Raises StoreError."""
    said = json.dumps({"status": status, "error": error[:500]}, ensure_ascii=True)
    disk.write_whole(folder / ENDED, [said.encode()])


def every(root: Path) -> list[Kept]:
    """The audits below ``root``, newest first; folders that hold none are passed over."""
    found = []
    with suppress(OSError):
        for folder in root.iterdir():
            with suppress(NotFound):
                found.append(get(root, folder.name))
    return sorted(found, key=lambda k: (k.created, k.name), reverse=True)


def get(root: Path, name: str) -> Kept:
    """One audit. Raises NotFound."""
    folder = root / name
    if not _NAME.match(name) or folder.is_symlink() or not folder.is_dir():
        raise NotFound("no such audit")
    known, summary = _values(folder / ASKED), _values(folder / DONE)
    journal = folder / JOURNAL
    if journal.is_symlink() or not (known or journal.is_file()):
        raise NotFound("no such audit")
    asked = None
    if known:
        with suppress(TypeError):
            asked = Asked(**known)
    ended = _values(folder / ENDED)
    status: Status = "interrupted"
    if summary:
        status = "done"
    elif ended.get("status") in ("cancelled", "failed"):
        status = ended["status"]
    created = asked.created if asked else str(summary.get("audit", {}).get("started", ""))
    error = str(ended.get("error", "")) if status == "failed" else ""
    return Kept(name, folder, status, asked, summary, error, created or _began(folder))


def done(folder: Path) -> int:
    """How many cases the journal holds."""
    held = 0
    with suppress(OSError), open(folder / JOURNAL, "rb") as opened:
        while block := opened.read(1 << 20):
            held += block.count(b"\n")
    return max(held - 1, 0)


def refused(folder: Path, most: int) -> tuple[list[dict[str, Any]], int]:
    """(the first lines that were no case, how many there were)."""
    kept: list[dict[str, Any]] = []
    total = 0
    with suppress(OSError), open(folder / "errors.jsonl", "rb") as opened:
        for line in opened:
            with suppress(ValueError):
                value = json.loads(line)
                total += 1
                if len(kept) < most:
                    kept.append(value)
    return kept, total


def files(folder: Path) -> list[tuple[str, int | None]]:
    """(name, bytes) of what may be fetched; None: it is made when it is asked for."""
    made: list[tuple[str, int | None]] = []
    for name in TYPES:
        path = folder / name
        if name == "report.parquet.zip":
            if (folder / "report.parquet").is_dir():
                made.append((name, None))
        elif not path.is_symlink() and path.is_file():
            made.append((name, path.stat().st_size))
    return made


def content(folder: Path, name: str) -> Iterator[bytes]:
    """A file that may be fetched, in pieces. Raises NotFound, before the first piece."""
    if name not in TYPES:
        raise NotFound("the audit has no such file")
    if name == "report.parquet.zip":
        return iter([_zipped(folder / "report.parquet")])
    try:  # a link is not followed, and what is opened is what was looked at
        file = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        raise NotFound("the audit has no such file") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotFound("the audit has no such file")
    return _pieces(file)


def _pieces(file: int) -> Iterator[bytes]:
    with os.fdopen(file, "rb") as opened:
        while block := opened.read(1 << 18):
            yield block


def _zipped(folder: Path) -> bytes:
    """The partitions of the Parquet report as one file."""
    if folder.is_symlink() or not folder.is_dir():
        raise NotFound("the audit has no such file")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*.parquet")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, f"report.parquet/{file.relative_to(folder).as_posix()}")
    return out.getvalue()


def _read(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as opened:
            return opened.read(_MOST_SMALL)
    except OSError:
        return None


def _values(path: Path) -> dict[str, Any]:
    """A small JSON object; {} where there is none."""
    held = _read(path)
    with suppress(ValueError, RecursionError):
        value = json.loads(held or b"{}")
        if isinstance(value, dict):
            return value
    return {}


def _began(folder: Path) -> str:
    try:
        with open(folder / JOURNAL, "rb") as opened:
            return str(json.loads(opened.readline(_MOST_SMALL)).get("started", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def prompts_of(items: Iterable[Mapping[str, Any]], given: str, form: str) -> tuple[bytes, str]:
    """(the prompts as a file, its name): rows of ours before what was uploaded.

    Raises InputError where rows would have to go into somebody's CSV.
    """
    rows = [json.dumps(dict(i), ensure_ascii=True) + "\n" for i in items]
    if form == "csv" and rows and given:
        raise InputError("prompts", "a CSV file cannot be joined with a selection; send JSONL")
    held = form if given else "jsonl"
    return "".join(rows).encode() + given.encode(), PROMPTS[held]
