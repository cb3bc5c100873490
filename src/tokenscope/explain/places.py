"""Where things stand in the text: identifiers, spans that a sentence can name, sums over spans."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import TokenScopeError
from tokenscope.explain.gradients import F32
from tokenscope.explain.heads import Names
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import CATEGORIES, LEVEL_BITS, Regions
from tokenscope.trace.tokens import Tokens

_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")
_PIECE = re.compile(rb"[A-Za-z_][\w.]*|\"[^\"\n]*\"|'[^'\n]*'|\d[\w.]*|[^\w\s]+")
_NAMED = ("identifier", "type")
_KEYWORDS = frozenset(k.encode() for k in keyword.kwlist)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start..end`` of the text on line ``line`` (from 1); ``kind`` as the grammar says."""

    start: int
    end: int
    line: int
    kind: str
    text: str


def regions_of(trace: Trace) -> Regions | None:
    """The syntax tree, or None where no grammar or no parser is at hand."""
    try:
        found = trace.regions
    except (TokenScopeError, ImportError):
        return None
    return found if len(found) > 1 else None


def names_of(trace: Trace) -> Names:
    """Identifiers by spelling: from the syntax tree, else by the shape of the word."""
    data = trace.tokens.data
    regions = regions_of(trace)
    spans: list[tuple[int, int]]
    if regions is not None:
        codes = [CATEGORIES.index(c) for c in _NAMED]
        leaves = np.flatnonzero(regions.leaf & np.isin(regions.category, codes))
        spans = [(int(regions.start[i]), int(regions.end[i])) for i in leaves]
    else:
        spans = [m.span() for m in _WORD.finditer(data) if m.group() not in _KEYWORDS]
    name = np.full(len(trace), -1, dtype=np.int32)
    place = np.full(len(trace), -1, dtype=np.int32)
    known: dict[bytes, int] = {}
    for number, (start, end) in enumerate(sorted(spans)):
        number_of = known.setdefault(data[start:end], len(known))
        for t in tokens_in(trace.tokens, start, end):
            if name[t] < 0:
                name[t], place[t] = number_of, number
    return Names(name, place)


def tokens_in(tokens: Tokens, start: int, end: int) -> NDArray[np.int64]:
    """Indices of the tokens that share bytes with ``start..end``."""
    o = tokens.offsets
    first = int(np.searchsorted(o[1:], start, side="right"))
    last = int(np.searchsorted(o[:-1], end, side="left"))
    found = np.arange(first, max(first, last), dtype=np.int64)
    return found[np.diff(o)[found] > 0]


def byte_sums(tokens: Tokens, values: F32) -> NDArray[np.float64]:
    """float64 (bytes + 1,): running sum with each token's value spread over its own bytes, so
    that ``sums[end] - sums[start]`` is what a span holds and disjoint spans add up exactly."""
    sizes = np.diff(tokens.offsets)[: len(values)]
    per = np.divide(values, sizes, out=np.zeros(len(values)), where=sizes > 0)
    spread = np.repeat(per, sizes)
    out = np.zeros(len(tokens.data) + 1)
    np.cumsum(spread, out=out[1 : len(spread) + 1])
    out[len(spread) + 1 :] = out[len(spread)]
    return out


def spans_of(trace: Trace, before: int, longest: int = 48) -> list[Span]:
    """Short spans of one line that end at or before byte ``before``: names, strings, calls."""
    data = trace.tokens.data
    regions = regions_of(trace)
    found: dict[tuple[int, int], str] = {}
    if regions is not None:
        wanted = regions.leaf | ((regions.level & LEVEL_BITS["expression"]) > 0)
        for i in np.flatnonzero(wanted & (regions.end <= before) & (regions.end > regions.start)):
            found.setdefault(
                (int(regions.start[i]), int(regions.end[i])), regions.kinds[regions.kind[i]]
            )
    else:
        for match in _PIECE.finditer(data[:before]):
            found[match.span()] = "word"
    lines = line_starts(data)
    out = []
    for (start, end), kind in sorted(found.items()):
        raw = data[start:end]
        if len(raw) <= longest and b"\n" not in raw and raw.strip():
            out.append(Span(start, end, line_at(lines, start), kind, _shown(raw)))
    return out


def line_starts(data: bytes) -> NDArray[np.int64]:
    """Byte offsets at which lines begin."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)
    return np.concatenate([[0], ends + 1]).astype(np.int64)


def token_lines(tokens: Tokens, first: int, end: int) -> tuple[tuple[int, int], ...]:
    """Pairs (first token, one past the last) of every line among the tokens ``first..end``.

    A token belongs to the line in which it begins.
    """
    starts = line_starts(tokens.data)
    line = np.searchsorted(starts, tokens.offsets[first:end], side="right")
    cuts = [first, *(first + 1 + np.flatnonzero(np.diff(line))).tolist(), end]
    return tuple((a, b) for a, b in pairwise(cuts) if b > a)


def line_at(starts: NDArray[np.int64], byte: int) -> int:
    """Line number, from 1, of a byte."""
    return int(np.searchsorted(starts, byte, side="right"))


def phrase(tokens: Tokens, at: int, piece: bytes, longest: int = 24) -> str:
    """A token with the unbroken word that stands before it: ``shell=`` + ``True``."""
    start = int(tokens.offsets[min(at, len(tokens))])
    if piece[:1].isspace():
        return _shown(piece.strip() or piece)
    head = tokens.data[max(0, start - longest) : start]
    cut = max((head.rfind(bytes([c])) for c in b" \t\n([{,;"), default=-1)
    return _shown(head[cut + 1 :] + piece) if cut >= 0 or start <= longest else _shown(piece)


def _shown(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    text = "".join(named.get(c, c if c.isprintable() else "\ufffd") for c in text)
    return text if text.strip() else f'"{text}"'
