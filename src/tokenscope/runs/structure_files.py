"""Scoring source files and rolling them up: the batch form of structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.code.aliases import language_of_file
from tokenscope.code.detect import detect
from tokenscope.code.views import rolled
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, TokenScopeError
from tokenscope.runs.windows import score
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 8 << 20
_SKIPPED_FOLDERS = {"node_modules", "__pycache__", "venv", "dist", "build", "target"}


@dataclass(frozen=True)
class FilesRolledUp:
    """One frame for all files, with a ``path`` and a ``language``; the files that were read, and
    why the others were not."""

    frame: pd.DataFrame
    files: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def source_files(path: Path) -> list[Path]:
    """A file by itself; of a folder, every file whose name says a language. Raises InputError."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("FILE", "is neither a file nor a folder")
    found = [
        p
        for p in sorted(path.rglob("*"))
        if p.is_file()
        and language_of_file(p)
        and not any(
            part.startswith(".") or part in _SKIPPED_FOLDERS for part in p.relative_to(path).parts
        )
    ]
    if not found:
        raise InputError("FILE", "holds no file in a language of the table")
    return found


def roll_up_files(
    engine: Engine,
    files: Sequence[Path],
    root: Path,
    *,
    by: str = "statement",
    column: str = "entropy",
    group: str = "region",
    language: str = "",
    control: Control = QUIET,
    say: Callable[[str], None] = lambda _: None,
) -> FilesRolledUp:
    """Score every file and roll a column up. A file that cannot be read or scored is skipped when
    there are several, and raises when it is the only one. ``control`` is told of bytes done.

    Raises UnknownName, InputError, Cancelled.
    """
    import pandas as pd

    frames, read, skipped = [], [], []
    sizes = [_size(path) for path in files]
    for n, path in enumerate(files):
        name = path.relative_to(root).as_posix()
        try:
            data = _read(path)
            spoken = detect(data, path, language or None)
            trace = _scored(engine, data.decode(), spoken, sum(sizes[:n]), sum(sizes), control)
            frame = rolled(trace, column, by, part="all", group=group).frame()
        except TokenScopeError as error:
            if len(files) == 1:
                raise
            say(f"{name}: skipped: {error}")
            skipped.append({"path": name, "reason": str(error)})
            continue
        frame.insert(0, "path", name)
        frame.insert(1, "language", spoken)
        frames.append(frame)
        read.append({"path": name, "language": spoken, "tokens": len(trace), "rows": len(frame)})
        if len(files) > 1:
            say(f"{name}: {len(trace)} tokens, {len(frame)} rows")
    if not frames:
        raise InputError("FILE", "none of the files could be scored")
    return FilesRolledUp(pd.concat(frames, ignore_index=True), read, skipped)


def _scored(
    engine: Engine, text: str, language: str, before: int, total: int, control: Control
) -> Trace:
    """The file's text, scored; ``before`` and ``total``: bytes of the files before, and of all."""
    run = score(engine, text, language=language, alternatives=0)
    size = len(text.encode())

    def told(done: int, tokens: int, what: str) -> None:
        control.step(before + size * done // max(tokens, 1), total, "bytes")

    run.control.progress = told
    for step in run:
        told(step.end, run.total, "tokens")
    return run.trace


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError("FILE", f"cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise InputError("FILE", f"holds more than {MOST_BYTES} bytes")
    if not data:
        raise InputError("FILE", "is empty")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InputError("FILE", f"is not UTF-8 (byte {error.start})") from None
    return data
