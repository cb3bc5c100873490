"""What the commands print, and where."""

from __future__ import annotations

import json
import sys
from typing import Any

from tokenscope.trace.display import visible

__all__ = ["document", "fail", "say", "visible"]


def document(value: Any) -> None:
    """One JSON document to stdout. Non-ASCII is escaped: no terminal can be steered by it."""
    sys.stdout.write(json.dumps(value, allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the reader's eyes, to stderr."""
    print(visible(text), file=sys.stderr, flush=True)


def fail(code: str, message: str, exit_code: int, as_json: bool) -> int:
    """Report an error; returns the exit code."""
    if as_json:
        document({"error": {"code": code, "message": message}})
    say(f"error: {message}")
    return exit_code
