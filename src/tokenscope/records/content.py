"""What of a run is recorded: digests of what it read and wrote, how it was made, with what.

No text of the trace goes in, only its digests. They stand in the payload, beside a random salt: of
a payload that was erased only its own digest stays, and from that nothing can be guessed.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope.trace import Trace

FOLDER = "records"  # in a data folder, or in that of an audit

SAFE = ("template_digest", "start_token")


def traced(trace: Trace) -> dict[str, Any]:
    """A trace as JSON values: digests of ids, bytes and every column; origin without its text.

    ids: int32, columns: float32, both little-endian. A NaN is one NaN, whatever its bits.
    """
    origin = trace.origin.to_json()
    request = origin.pop("request")
    return {
        "tokens": len(trace),
        "n_prompt": trace.n_prompt,
        "finish": trace.finish,
        "ids": _sha(np.ascontiguousarray(trace.ids, "<i4")),
        "text": hashlib.sha256(trace.tokens.data).hexdigest(),
        "columns": {name: _sha(_clean(c.values)) for name, c in sorted(trace.columns.items())},
        "quality": {name: c.quality for name, c in sorted(trace.columns.items())},
        "origin": origin,
        "request": {k: v for k, v in request.items() if k in SAFE},
        "machine": {"python": platform.python_version(), "system": platform.system(),
                    "processor": platform.machine()},
    }  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the records themselves, by its path in it."""
    out = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and name.parts[0] != FOLDER:
            with open(file, "rb") as opened:
                out[name.as_posix()] = hashlib.file_digest(opened, "sha256").hexdigest()
    return out


def changed_files(held: Mapping[str, str], folder: Path) -> list[str]:
    """Files that are not what was recorded, or not there any more."""
    now = digests(folder)
    return [f"file {name}" for name in sorted(held) if now.get(name) != held[name]]


def differences(held: Mapping[str, Any], trace: Trace) -> list[str]:
    """What of a trace is not what was recorded: ``ids``, ``text``, ``column entropy`` ..."""
    now = traced(trace)
    out = [n for n in ("tokens", "n_prompt", "finish", "ids", "text") if held.get(n) != now[n]]
    was = held.get("columns")
    columns: Mapping[str, str] = was if isinstance(was, dict) else {}
    for name in sorted({*columns, *now["columns"]}):
        if columns.get(name) != now["columns"].get(name):
            out.append(f"column {name}")
    return out


def _clean(values: Any) -> Any:
    made = np.ascontiguousarray(values, "<f4")
    if np.isnan(made).any():
        made = made.copy()
        made[np.isnan(made)] = np.float32("nan")
    return made


def _sha(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()
