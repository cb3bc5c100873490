"""What an audit is over, one case at a time: prompts of a file or a folder, or code that exists.

A file of a million lines, some hostile, is read in bounded memory: line by line, none longer than
:data:`MOST_LINE` is held, ids that were seen are kept on the disk. What cannot be used is a
:class:`Refused` with its line, and the reading goes on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tokenscope.code.aliases import chosen
from tokenscope.errors import InputError, UnknownName
from tokenscope.evidence.check import Ranges

MOST_LINE = 1 << 20
PROMPT_SUFFIXES = (".jsonl", ".ndjson", ".csv")
_TEXT_SUFFIXES = (".txt", ".prompt")


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to audit. ``prompt`` (with ``suffix``: an infill) or ``messages`` is continued,
    ``code`` is measured as it is. ``line``: where in its file it stands, from 1."""

    id: str
    prompt: str | None = None
    suffix: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    code: str | None = None
    language: str = ""
    path: str = ""
    line: int = 0
    changed: Ranges | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refused:
    """A line or file that is no case: ``where`` it stands and why."""

    where: str
    line: int
    reason: str
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


Entry = Case | Refused


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    data: bytes
    cut: bool = False


def read_prompts(path: Path) -> Iterator[Entry]:
    """The cases of a JSONL or CSV file, or of a folder with a prompt per file.

    Raises InputError where there is nothing of the kind.
    """
    if path.is_dir():
        yield from _unique(_of_folder(path), path.name)
        return
    made = _of_csv if path.suffix.lower() == ".csv" else _of_jsonl
    try:
        with open(path, "rb") as opened:
            yield from _unique(made(opened, path.name), path.name)
    except OSError as error:
        raise InputError("PROMPTS", f"cannot be read: {error.strerror}") from error


def is_prompts(path: Path) -> bool:
    """Whether a file or folder looks like prompts rather than like code."""
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
        return bool(files) and all(p.suffix.lower() in _TEXT_SUFFIXES for p in files)
    return path.suffix.lower() in PROMPT_SUFFIXES


def count_lines(path: Path) -> int:
    """About how many cases there are, for the progress: lines of a file, files of a folder."""
    if path.is_dir():
        return sum(1 for p in path.iterdir() if p.is_file())
    with open(path, "rb") as opened:
        return sum(block.count(b"\n") for block in iter(lambda: opened.read(1 << 20), b"")) or 1


def _unique(entries: Iterator[Entry], where: str) -> Iterator[Entry]:
    """The same with every id once: what comes again is refused. Ids are kept on the disk."""
    seen = sqlite3.connect("")  # a temporary file that SQLite takes away again
    try:
        seen.execute("create table ids (digest blob primary key) without rowid")
        for entry in entries:
            if isinstance(entry, Case):
                digest = hashlib.blake2b(entry.id.encode("utf-8", "replace"), digest_size=12)
                held = seen.execute("insert or ignore into ids values (?)", (digest.digest(),))
                if not held.rowcount:
                    yield Refused(where, entry.line, "its id was used before", entry.id[:80])
                    continue
            yield entry
    finally:
        seen.close()


def _of_folder(path: Path) -> Iterator[Entry]:
    for n, file in enumerate(sorted(p for p in path.iterdir() if p.is_file()), 1):
        if file.name.startswith("."):
            continue
        with open(file, "rb") as opened:
            data = opened.read(MOST_LINE + 1)
        if len(data) > MOST_LINE:
            yield Refused(file.name, n, f"holds more than {MOST_LINE} bytes")
            continue
        try:
            yield Case(file.stem, data.decode(), line=n, path=file.name)
        except UnicodeDecodeError as error:
            yield Refused(file.name, n, f"is not UTF-8 (byte {error.start})")


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """Lines with their numbers; of one that is too long only that it was there."""
    number = 0
    while data := file.readline(MOST_LINE + 1):
        number += 1
        if len(data) <= MOST_LINE or data.endswith(b"\n"):
            yield _Line(number, data)
            continue
        while (more := file.readline(MOST_LINE)) and not more.endswith(b"\n"):
            pass
        yield _Line(number, b"", cut=True)


def _of_jsonl(file: BinaryIO, where: str) -> Iterator[Entry]:
    for line in _lines(file):
        if line.cut:
            yield Refused(where, line.number, f"is longer than {MOST_LINE} bytes")
            continue
        data = line.data.strip()
        if not data:
            continue
        try:
            held = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            yield Refused(where, line.number, f"is not UTF-8 (byte {error.start})")
        except (ValueError, RecursionError):
            yield Refused(where, line.number, "is not JSON")
        else:
            yield _case(held, where, line.number)


def _of_csv(file: BinaryIO, where: str) -> Iterator[Entry]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    csv.field_size_limit(MOST_LINE)
    reader = csv.DictReader(text)
    number = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            yield Refused(where, reader.line_num, "is no row of a CSV file, or too long")
            continue
        if row is None:
            return
        number = reader.line_num
        if any(isinstance(v, str) and "\ufffd" in v for v in row.values()):
            yield Refused(where, number, "is not UTF-8")
            continue
        yield _case({k: v for k, v in row.items() if k and v}, where, number)


def _case(held: Any, where: str, line: int) -> Entry:
    """A case from a JSON value: a prompt, or an object with ``prompt`` or ``messages``.

    HumanEval: ``task_id``, ``prompt``. MBPP: ``task_id``, ``text`` and ``test_list`` become the
    docstring that its authors gave their models.
    """
    if isinstance(held, str):
        held = {"prompt": held}
    if not isinstance(held, dict):
        return Refused(where, line, "is neither a text nor an object")
    name = held.get("id", held.get("task_id", held.get("name")))
    given = str(line) if name is None or isinstance(name, (dict, list)) else str(name)
    problem = _wrong(held)
    if problem:
        return Refused(where, line, problem, given[:80])
    prompt = held.get("prompt")
    if prompt is None and isinstance(held.get("text"), str):
        tests = held.get("test_list")
        shown = "\n".join(str(t) for t in tests[:3]) if isinstance(tests, list) else ""
        prompt = f'"""\n{held["text"]}\n{shown}\n"""\n' if shown else held["text"]
    language = str(held.get("language") or "")
    if not language and isinstance(held.get("test_list"), list):
        language = "python"
    messages = held.get("messages")
    return Case(
        given[:500], prompt, held.get("suffix"),
        None if messages is None else tuple(dict(m) for m in messages),
        language=chosen(language) if language else "", path=where, line=line,
    )  # fmt: skip


def _wrong(held: Mapping[str, Any]) -> str:
    """Why an object is no case, "" when it is one."""
    messages = held.get("messages")
    if messages is not None and not (
        isinstance(messages, list) and messages
        and all(isinstance(m, dict) and all(isinstance(v, str) for v in m.values())
                for m in messages)
    ):  # fmt: skip
        return "messages must be a list of objects with role and content"
    prompt = held.get("prompt", held.get("text"))
    if messages is None and (not isinstance(prompt, str) or not prompt):
        return "has no prompt (a text that is not empty)"
    if messages is not None and held.get("prompt") is not None:
        return "has both a prompt and messages"
    suffix = held.get("suffix")
    if suffix is not None and not isinstance(suffix, str):
        return "its suffix must be a text"
    for value in (prompt, suffix):
        if isinstance(value, str) and _surrogate(value):
            return "holds half a character (a lone surrogate)"
    try:
        if held.get("language"):
            chosen(str(held["language"]))
    except UnknownName:
        return "names a language that is not known"
    return ""


def _surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)
