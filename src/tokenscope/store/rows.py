"""Sessions and branches as plain values, and the figures that a row keeps of a trace."""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
import unicodedata
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from tokenscope.trace import Trace
from tokenscope.trace.views import plain

Status = Literal["running", "done", "interrupted"]
EXCERPT = 80


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session. ``branches`` and ``tokens`` count what is not deleted."""

    id: str
    title: str
    created: str
    updated: str
    branches: int
    tokens: int


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One branch. ``at``: its first token that is not its parent's (0: a root).

    ``own_tokens``, ``own_logprob`` (nats, joint) and ``own_surprisal`` (nats, mean) describe what
    differs from the parent; of a root, what was generated. ``turn_logprob``: of the first token
    that differs, so how much of its parent's mass turned here; None for a root and for branches
    of older stores. ``note`` and ``starred`` are the reader's. ``status``: ``interrupted`` when the
    process or the disk ended the run. ``request``: what was asked for, where the caller said it.
    """

    id: str
    session: str
    parent: str | None
    at: int
    title: str
    excerpt: str
    status: Status
    finish: str
    form: str
    created: str
    summary: Mapping[str, float | None]
    own_tokens: int
    own_logprob: float | None
    own_surprisal: float | None
    model: str = ""
    model_digest: str = ""
    request: Mapping[str, Any] | None = None
    turn_logprob: float | None = None
    note: str = ""
    starred: bool = False


def node_row(found: sqlite3.Row, running: Container[str] = ()) -> NodeRow:
    """A database row as a value. ``running``: the branches that this very process writes; no
    other one can be running, whatever its row still says."""
    known = {name: found[name] for name in NodeRow.__dataclass_fields__}
    known["summary"] = json.loads(found["summary"])
    known["starred"] = bool(found["starred"])
    known["request"] = json.loads(found["request"]) if found["request"] else None
    if known["status"] == "running" and known["id"] not in running:
        known["status"] = "interrupted"
    return NodeRow(**known)


def measured(trace: Trace, parent: str | None, at: int) -> dict[str, Any]:
    """The columns of ``nodes`` that follow from the trace."""
    start = at if parent is not None else trace.n_prompt
    start = start if start < len(trace) else (len(trace) if parent is not None else 0)
    figures = {k: plain(v) for k, v in trace.summary().items()}
    whole = {k: int(figures[k] or 0) for k in ("tokens", "prompt_tokens", "generated_tokens")}
    logprobs = np.zeros(0)
    if "logprob" in trace.columns:
        logprobs = trace.column("logprob")[start:].astype(np.float64)
        logprobs = logprobs[np.isfinite(logprobs)]
    turn = math.nan
    if parent is not None and start < len(trace) and "logprob" in trace.columns:
        turn = float(trace.column("logprob")[start])
    joint = float(logprobs.sum()) if logprobs.size else math.nan
    return {
        "excerpt": excerpt(trace, at if parent is not None else 0),
        "tokens": len(trace),
        "summary": json.dumps({**figures, **whole}, allow_nan=False),
        "own_tokens": len(trace) - start,
        "own_logprob": plain(joint),
        "own_surprisal": plain(-joint / logprobs.size) if logprobs.size else None,
        "turn_logprob": plain(turn),
    }


def excerpt(trace: Trace, start: int) -> str:
    """The first line with something in it from token ``start`` on, at most 80 characters."""
    offset = int(trace.tokens.offsets[min(start, len(trace))])
    text = trace.tokens.data[offset : offset + 4000].decode("utf-8", "replace")
    return one_line(text)


def one_line(text: str) -> str:
    """The first line that is not blank, without control characters, at most 80 characters."""
    for line in text.splitlines():
        if line.strip():
            return printable(line.strip())[:EXCERPT]
    return ""


def printable(text: str) -> str:
    """Control, format (bidi, zero-width) and unassigned characters as U+FFFD; tabs as a space."""
    return "".join(
        c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for c in text.replace("\t", " ")
    )


def new_id() -> str:
    """64 random bits: names that never come again, also after a purge."""
    return secrets.token_hex(8)


def now(before: timedelta = timedelta(0)) -> str:
    """UTC, ISO 8601, to the microsecond: sorts as text. ``before``: as long ago."""
    return (datetime.now(UTC) - before).isoformat(timespec="microseconds").replace("+00:00", "Z")
