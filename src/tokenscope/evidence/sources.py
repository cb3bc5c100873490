"""Code that exists, as cases: files, folders, what a git diff changed, standard input."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tokenscope.code.aliases import language_of_file
from tokenscope.code.detect import detect
from tokenscope.errors import InputError, MissingError
from tokenscope.evidence.cases import Case, Entry, Refused
from tokenscope.evidence.check import Ranges

MOST_BYTES = 8 << 20
_SKIPPED = {"node_modules", "__pycache__", "venv", "dist", "build", "target"}
_RANGE = re.compile(r"\A[\w./@~^{}-]{1,200}\.\.\.?[\w./@~^{}-]{1,200}\Z")
_HUNK = re.compile(rb"^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def read_code(path: Path, language: str = "") -> Iterator[Entry]:
    """A file, or every file of a folder whose name says a language. Raises InputError."""
    if path.is_file():
        yield _of_file(path, path.name, language)
        return
    if not path.is_dir():
        raise InputError("PROMPTS", "is neither a file nor a folder")
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        hidden = any(p.startswith(".") or p in _SKIPPED for p in inside.parts)
        if not hidden and file.is_file() and language_of_file(file):
            yield _of_file(file, inside.as_posix(), language)


def of_text(data: bytes, name: str, language: str = "") -> Entry:
    """One text, such as what stands on standard input."""
    return _made(data, name, language, None)


def read_diff(root: Path, asked: str) -> Iterator[Entry]:
    """The files that ``BASE..HEAD`` changed, as they are at HEAD, with their changed bytes.

    The whole file is measured (a line means what it does in its context), and judged where it
    changed. Raises InputError, and MissingError without git.
    """
    if not _RANGE.match(asked) or asked.startswith("-"):
        raise InputError("--git-diff", "must be BASE..HEAD, two commits or branches")
    names = _git(root, "diff", "--name-only", "-z", "--diff-filter=AMR", "--relative", asked)
    head = asked.split("..")[-1].lstrip(".") or "HEAD"
    for raw in [n for n in names.split(b"\0") if n]:
        name = raw.decode("utf-8", "replace")
        if not language_of_file(name):
            continue
        data = _git(root, "show", f"{head}:./{name}")
        diff = _git(root, "diff", "-U0", "--no-color", "--no-ext-diff", "--relative", asked, "--",
                    f":(literal){name}")  # fmt: skip
        yield _made(data, name, "", changed_bytes(data, diff))


def changed_bytes(data: bytes, diff: bytes) -> Ranges:
    """The byte ranges of the lines that a unified diff without context added or changed."""
    starts = [0]
    for line in data.splitlines(keepends=True) if b"\r" not in data else data.split(b"\n"):
        size = len(line) if b"\r" not in data else len(line) + 1
        starts.append(min(starts[-1] + size, len(data)))
    ranges = []
    for hunk in _HUNK.finditer(diff):
        first, count = int(hunk.group(1)), int(hunk.group(2) or 1)
        if count and first < len(starts):
            ranges.append((starts[first - 1], starts[min(first - 1 + count, len(starts) - 1)]))
    return tuple(ranges)


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        raise MissingError("git is not installed; --git-diff needs it") from None
    except subprocess.TimeoutExpired:
        raise InputError("--git-diff", "git took longer than a minute") from None
    if done.returncode:
        raise InputError("--git-diff", "git knows no such commits here")
    return done.stdout


def _of_file(path: Path, name: str, language: str) -> Entry:
    try:
        with open(path, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        return Refused(name, 0, f"cannot be read: {error.strerror}")
    return _made(data, name, language, None)


def _made(data: bytes, name: str, language: str, changed: Ranges | None) -> Entry:
    if len(data) > MOST_BYTES:
        return Refused(name, 0, f"holds more than {MOST_BYTES} bytes")
    if not data.strip():
        return Refused(name, 0, "is empty")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return Refused(name, 0, f"is not UTF-8 (byte {error.start})")
    spoken = detect(data, name, language or None)
    return Case(name, code=text, language=spoken, path=name, changed=changed)
