"""Consecutive pieces of one sequence, and how they become a Trace.

The decoder (steps), the journal (records) and the store (a branch after its parent's rows) all
put a trace together from pieces; this is the one place that knows how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tokenscope.errors import InputError
from tokenscope.trace import attention
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import F32, Column, Quality
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

# what is joined is as good as its worst piece
_WORST: tuple[Quality, ...] = ("exact", "bound", "estimate")
LOST = "<lost>"


class Fragment(Protocol):
    """What can be joined: n tokens from index ``start`` on. A decoder's Step is one, too."""

    @property
    def start(self) -> int: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def columns(self) -> Mapping[str, F32]: ...
    @property
    def quality(self) -> Mapping[str, Quality]: ...
    @property
    def alternatives(self) -> Alternatives | None: ...
    @property
    def attention(self) -> Attention | None: ...
    @property
    def prompt(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive tokens of a sequence, from index ``start`` on, with what was measured on them.

    ``columns``: float32 (n,) each; ``quality`` of those that are not ``exact``. ``alternatives``:
    n rows; it may carry the bytes of more ids than occur. ``attention`` counts its tokens from
    the start of the sequence. ``prompt``: these tokens were given, not decoded.
    """

    start: int
    tokens: Tokens
    columns: Mapping[str, F32]
    alternatives: Alternatives | None = None
    attention: Attention | None = None
    prompt: bool = False
    quality: Mapping[str, Quality] = field(default_factory=dict)


def join(
    base: Trace | None, parts: Sequence[Fragment], *,
    n_prompt: int | None = None, origin: Origin | None = None, language: str | None = None,
) -> Trace:  # fmt: skip
    """``base`` (tokens 0..) followed by the parts. What a piece lacks is NaN, or no alternative.

    ``n_prompt``: without it, the prompt ends where the first part that is none begins. Tokens
    that are missing between two parts stand as special tokens ``<lost>`` with the id -1, so that
    what follows keeps its index. Raises InputError when parts overlap.
    """
    first = next((p.start for p in parts if len(p.tokens)), 0)
    start = len(base) if base is not None else first
    at, pieces = start, [base.tokens] if base is not None else []
    for part in parts:
        if not len(part.tokens):
            continue
        if part.start < at:
            raise InputError("start", f"token {part.start} is there twice")
        if part.start > at:
            pieces.append(_lost(part.start - at))
        pieces.append(part.tokens)
        at = part.start + len(part.tokens)
    zero = 0 if base is not None else start  # without a base, the trace begins at the first part
    total = at - zero
    held = [(p.start - zero, p) for p in parts]
    if n_prompt is None:
        n_prompt = _prompt(base, held)
    return Trace(
        _tokens(pieces), min(n_prompt, total), _columns(base, held, total),
        _alternatives(base, held, total), _attention(base, parts),
        origin if origin is not None else (base.origin if base is not None else Origin()), "",
        language if language is not None else (base.language if base is not None else ""),
    )  # fmt: skip


def reaching(base: Trace | None, n: int) -> Trace:
    """``base`` with special tokens ``<lost>`` up to ``n`` tokens where it ends before."""
    held = base.cut(n) if base is not None else Trace(Tokens.of([], []), 0)
    return held if len(held) == n else join(held, [Part(len(held), _lost(n - len(held)), {})])


def worst(a: Quality, b: Quality) -> Quality:
    """The quality of values that come from both."""
    return max(a, b, key=_WORST.index)


Held = Sequence[tuple[int, Fragment]]


def _prompt(base: Trace | None, held: Held) -> int:
    n = base.n_prompt if base is not None else 0
    if base is not None and n < len(base):
        return n
    for at, part in held:
        if not len(part.tokens):
            continue
        if not part.prompt:
            break
        n = at + len(part.tokens)
    return n


def _lost(n: int) -> Tokens:
    return Tokens.of([-1] * n, [b""] * n, dict.fromkeys(range(n), LOST))


def _tokens(pieces: Sequence[Tokens]) -> Tokens:
    if not pieces:
        return Tokens.of([], [])
    offsets = [np.zeros(1, dtype=np.int64)]
    labels: dict[int, str] = {}
    size = count = 0
    for piece in pieces:
        offsets.append(piece.offsets[1:] + size)
        labels |= {i + count: s for i, s in piece.labels.items()}
        size += len(piece.data)
        count += len(piece)
    return Tokens(
        np.concatenate([p.ids for p in pieces]), b"".join(p.data for p in pieces),
        np.concatenate(offsets), labels,
    )  # fmt: skip


def _columns(base: Trace | None, held: Held, total: int) -> dict[str, Column]:
    values: dict[str, F32] = {}
    quality: dict[str, Quality] = {}
    for name, column in base.columns.items() if base is not None else ():
        values[name] = np.full(total, np.nan, dtype=np.float32)
        values[name][: len(column.values)] = column.values
        quality[name] = column.quality
    for at, part in held:
        for name, given in part.columns.items():
            if name not in values:
                values[name] = np.full(total, np.nan, dtype=np.float32)
            values[name][at : at + len(given)] = given
            quality[name] = worst(quality.get(name, "exact"), part.quality.get(name, "exact"))
    return {n: Column(n, v, quality[n]) for n, v in values.items()}


def _alternatives(base: Trace | None, held: Held, total: int) -> Alternatives | None:
    found = [(at, p.alternatives) for at, p in held if p.alternatives is not None]
    if base is not None and base.alternatives is not None:
        found.insert(0, (0, base.alternatives))
    k = max((a.k for _, a in found), default=0)
    if k == 0:
        return None
    ids = np.full((total, k), -1, np.int32)
    logprobs = np.full((total, k), -np.inf, np.float32)
    pieces: dict[int, bytes] = {}
    labels: dict[int, str] = {}
    tables: set[int] = set()
    for at, a in found:
        ids[at : at + len(a.ids), : a.k] = a.ids
        logprobs[at : at + len(a.ids), : a.k] = a.logprobs
        if id(a.pieces) not in tables:  # steps of one run may share one growing table
            tables.add(id(a.pieces))
            pieces |= a.pieces
        labels |= a.labels
    return Alternatives(ids, logprobs, pieces, labels)


def _attention(base: Trace | None, parts: Sequence[Fragment]) -> Attention | None:
    held = base.attention if base is not None else None
    fresh = attention.last_run([p.attention for p in parts if p.attention is not None])
    if held is None or not fresh:
        return held if held is not None else attention.join(fresh)
    # another form, or a gap: only what was recorded last is kept
    return attention.join([held, *fresh] if attention.follows(held, fresh[0]) else fresh)
