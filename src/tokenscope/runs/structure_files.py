"""Scoring source files and rolling them up: the batch form of structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.code.detect import detect, language_of_file
from tokenscope.code.views import rolled
from tokenscope.decode.engine import Engine
from tokenscope.errors import CapacityError, InputError, TokenScopeError
from tokenscope.runs.generate import score
from tokenscope.trace.columns import Column
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

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
    say: Callable[[str], None] = lambda _: None,
) -> FilesRolledUp:
    """Score every file and roll a column up. A file that cannot be read or scored is skipped when
    there are several, and raises when it is the only one. Raises UnknownName, InputError."""
    import pandas as pd

    frames, read, skipped = [], [], []
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            data = _read(path)
            spoken = detect(data, path, language or None)
            trace = score_text(engine, data.decode(), spoken)
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


def score_text(engine: Engine, text: str, language: str) -> Trace:
    """Teacher forcing for a text of any length.

    A text that does not fit the model is scored in windows, each with up to half a window of what
    stands before it as context; a token's numbers come from the window in which it is new.
    """
    try:
        return score(engine, text, language=language, alternatives=0).result()
    except CapacityError as error:
        # a token is one byte at least, so this many bytes always fit
        fits = error.fits or engine.info.context or 1 << 20
        return _windows(engine, text.encode(), language, max(int(fits), 16))


def _windows(engine: Engine, data: bytes, language: str, fits: int) -> Trace:
    """Windows of ``fits`` bytes, grown while they fit: bytes a token are learnt on the way."""
    ids: list[int] = []
    pieces: list[bytes] = []
    values: dict[str, list[float]] = {}
    first: Trace | None = None
    done, size = 0, fits
    while done < len(data):
        begin = _line_start(data, max(0, done - size // 2), done)
        window = data[begin : begin + size].decode("utf-8", "ignore")
        try:
            trace = score(engine, window, language=language, alternatives=0).result()
        except CapacityError:
            size //= 2
            continue
        first = first or trace
        end = begin + len(window.encode())
        if end <= done:
            raise InputError("FILE", "does not fit the model's context even in parts")
        bounds = trace.tokens.offsets + begin
        for t in range(len(trace)):
            low, high = max(int(bounds[t]), done), int(bounds[t + 1])
            if high <= low and not (first is trace and low == high == begin):
                continue  # seen in an earlier window; marks count once
            ids.append(int(trace.ids[t]))
            pieces.append(data[low:high])
            for name, column in trace.columns.items():
                values.setdefault(name, []).append(float(column.values[t]))
        per_token = max(1.0, len(trace.tokens.data) / max(len(trace), 1))
        size = min(int(size * 1.5), int(0.9 * fits * per_token))
        done = end
    assert first is not None
    columns = {n: Column(n, np.asarray(v, dtype=np.float32)) for n, v in values.items()}
    return replace(
        first, tokens=Tokens.of(ids, pieces), n_prompt=len(ids), columns=columns,
        alternatives=None, attention=None,
    )  # fmt: skip


def _line_start(data: bytes, at: int, before: int) -> int:
    """The first line that starts at or after ``at``, unless that is past ``before``."""
    if at == 0:
        return 0
    found = data.find(b"\n", at - 1, before)
    start = found + 1 if found >= 0 else at
    while start < before and data[start] & 0xC0 == 0x80:
        start += 1  # never inside a character
    return start
