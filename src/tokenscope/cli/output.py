"""What the commands print, and where."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["document", "fail", "fitted", "result", "say", "table", "visible", "writable"]


def visible(text: str) -> str:
    """See ``trace.display``, which is loaded with the first text: help needs no numpy."""
    from tokenscope.trace.display import visible as safe

    return safe(text)


def document(value: Any) -> None:
    """One JSON document to stdout; what is no number is null. Non-ASCII is escaped: no terminal
    can be steered by it."""
    sys.stdout.write(json.dumps(_plain(value), allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result(text: str) -> None:
    """A line of the result, to stdout, made safe to look at."""
    print(visible(text))


def say(text: str) -> None:
    """A line for the reader's eyes, to stderr."""
    print(visible(text), file=sys.stderr, flush=True)


def writable(path: Path, option: str) -> None:
    """Raises InputError when a file cannot be written there: told before the work, not after."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(option, f"cannot be written: there is no folder {folder.name!r}")
    if path.is_dir():
        raise InputError(option, "cannot be written: it is a folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(option, "cannot be written: permission denied")


def table(frame: pd.DataFrame) -> None:
    """A frame to stdout. In a terminal as wide as that: columns at the right are left out, and
    named on stderr; elsewhere whole."""
    shown = frame
    left: list[str] = []
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        while len(shown.columns) > 2 and len(_lines(shown)[0]) > width:
            left.insert(0, str(shown.columns[-1]))
            shown = shown[shown.columns[:-1]]
    print("\n".join(_lines(shown)))
    if left:
        more = f" and {len(left) - 8} more" if len(left) > 8 else ""
        names = ", ".join(left[:8])
        say(f"not shown, for the terminal's width: {names}{more} (--json has all)")


def fitted(line: str) -> str:
    """A line cut to the terminal's width; whole elsewhere."""
    width = shutil.get_terminal_size().columns
    return line if not sys.stdout.isatty() or len(line) <= width else f"{line[: width - 1]}…"


def _lines(frame: pd.DataFrame) -> list[str]:
    texts = frame.map(lambda v: visible(v.replace("\n", "␊").replace("\t", "␉"))
                      if isinstance(v, str) else v)  # fmt: skip
    text: str = texts.to_string(index=False, float_format=lambda x: f"{x:.3f}", max_colwidth=32)
    return text.split("\n")


def fail(code: str, message: str, exit_code: int, as_json: bool) -> int:
    """Report an error; returns the exit code."""
    if as_json:
        document({"error": {"code": code, "message": message}})
    say(f"error: {message}")
    return exit_code
