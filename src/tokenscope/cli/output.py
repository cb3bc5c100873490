"""What the commands print, and where."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.errors import InputError
from tokenscope.trace.display import visible

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["document", "fail", "say", "table", "visible", "writable"]


def document(value: Any) -> None:
    """One JSON document to stdout. Non-ASCII is escaped: no terminal can be steered by it."""
    sys.stdout.write(json.dumps(value, allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()


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
    print(visible("\n".join(_lines(shown))))
    if left:
        say(f"not shown, for the terminal's width: {', '.join(left)} (--json has all)")


def _lines(frame: pd.DataFrame) -> list[str]:
    text: str = frame.to_string(index=False, float_format=lambda x: f"{x:.3f}", max_colwidth=32)
    return text.split("\n")


def fail(code: str, message: str, exit_code: int, as_json: bool) -> int:
    """Report an error; returns the exit code."""
    if as_json:
        document({"error": {"code": code, "message": message}})
    say(f"error: {message}")
    return exit_code
