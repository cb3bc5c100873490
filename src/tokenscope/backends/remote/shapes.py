"""What servers tell of a position: two shapes of log-probabilities, checked before they are used.

The chat-like one (llama.cpp, OpenAI's chat, Ollama): an entry per token with ``token``, ``bytes``,
``logprob``, ``top_logprobs``, and in llama.cpp ``id``. The legacy one (vLLM, TGI): lists
``tokens``, ``token_logprobs``, ``top_logprobs`` of dicts from a token's text to its logprob.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from tokenscope.backends.protocol import Top
from tokenscope.errors import RemoteError

LEAST = -1e30  # what servers write for ln 0
SLACK = 1e-3  # how far rounding may lift a probability above 1
MOST_ENTRIES = 1 << 20
Pair = tuple[int, float]  # an id and its logprob


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token and its logprob. ``id`` -1, ``bytes`` None, ``logprob`` NaN: not told."""

    id: int
    text: str
    bytes: bytes | None
    logprob: float


@dataclass(frozen=True, slots=True)
class Entry:
    """The token that came, and the most likely ones at its place."""

    came: Candidate
    top: tuple[Candidate, ...]


def strange(what: str) -> RemoteError:
    """An answer that this cannot be."""
    return RemoteError(f"its answer has an unknown shape: {what}")


def objects(value: Any, what: str) -> list[Any]:
    """``value`` as a list; [] for null. Raises RemoteError."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_ENTRIES:
        raise strange(f"{what} is no list")
    return value


def field(value: Any, name: str, kind: type, what: str) -> Any:
    """``value[name]``, which must be a ``kind``. Raises RemoteError."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise strange(f"{what} has no {name}")
    return found


def entries(value: Any) -> list[Entry]:
    """The chat-like shape: a list of entries. Raises RemoteError."""
    return [
        Entry(_candidate(e), tuple(map(_candidate, objects(e.get("top_logprobs"), "top_logprobs"))))
        for e in objects(value, "logprobs") if isinstance(e, dict) or _no_entry()
    ]  # fmt: skip


def legacy(value: Any) -> list[Entry]:
    """The legacy shape: parallel lists. Raises RemoteError."""
    if not isinstance(value, dict):
        raise strange("logprobs is no object")
    tokens = objects(value.get("tokens"), "tokens")
    logprobs = objects(value.get("token_logprobs"), "token_logprobs")
    tops = objects(value.get("top_logprobs"), "top_logprobs") or [None] * len(tokens)
    if not len(tokens) == len(logprobs) == len(tops):
        raise strange("its lists have different lengths")
    out = []
    for token, logprob, top in zip(tokens, logprobs, tops, strict=True):
        if top is not None and not isinstance(top, dict):
            raise strange("a top is no object")
        held = tuple(_named(t, p) for t, p in (top or {}).items())
        out.append(Entry(_named(token, logprob), held))
    return out


def _sure(best: Sequence[Pair], vague: Container[int], rest: float) -> list[Pair]:
    """The first ones that nothing hidden can stand before."""
    return list(takewhile(lambda c: c[0] not in vague and math.exp(c[1]) > rest, best))


def _vague(c: Candidate) -> bool:
    """Whether its text is no whole character and its bytes are not told."""
    return c.bytes is None and "\ufffd" in c.text


def _no_entry() -> bool:
    raise strange("an entry is no object")


def _candidate(value: Any) -> Candidate:
    if not isinstance(value, dict):
        raise strange("a candidate is no object")
    token = value.get("id", -1)
    if not isinstance(token, int) or isinstance(token, bool):
        raise strange("an id is no number")
    text = value.get("token", "")
    if not isinstance(text, str):
        raise strange("a token is no text")
    return Candidate(token, text, _bytes(value.get("bytes")), _logprob(value.get("logprob")))


def _named(token: Any, logprob: Any) -> Candidate:
    """A token of the legacy shape; ``token_id:17``, ``bytes:\\xe2`` say more than a text."""
    if not isinstance(token, str):
        raise strange("a token is no text")
    if token.startswith("token_id:") and token[9:].isdecimal():
        return Candidate(int(token[9:20]), "", None, _logprob(logprob))
    if token.startswith("bytes:\\x"):
        try:
            raw = bytes.fromhex(token[6:].replace("\\x", ""))
        except ValueError:
            raise strange("the bytes of a token are none") from None
        return Candidate(-1, token, raw, _logprob(logprob))
    return Candidate(-1, token, None, _logprob(logprob))


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return bytes(value) if isinstance(value, list) else None
    except (TypeError, ValueError):
        raise strange("the bytes of a token are none") from None


def _logprob(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise strange("a logprob is no number")
    number = float(value)
    if math.isnan(number) or number > SLACK:
        raise strange("a logprob is above 0 or no number")
    return -math.inf if number < LEAST else min(number, 0.0)


def top_of(rows: Sequence[Entry], number: Callable[[Candidate], int], k: int) -> Top:
    """The tops of n positions, at most ``k`` wide. ``number``: a candidate's id.

    Raises RemoteError where the probabilities sum to more than 1: then they are not those of the
    model, but of what its sampler left over.
    """
    width = min(k, max((len(r.top) for r in rows), default=0))
    ids = np.full((len(rows), width), -1, np.int32)
    logprobs = np.full((len(rows), width), -np.inf, np.float32)
    missing = np.ones(len(rows))
    chosen = np.full(len(rows), np.nan, np.float32)
    for n, row in enumerate(rows):
        held: dict[int, float] = {}
        for c in row.top:
            if not math.isnan(c.logprob):
                held.setdefault(number(c), c.logprob)
        best = sorted(held.items(), key=lambda item: (-item[1], item[0]))[:width]
        vague = {number(c) for c in row.top if _vague(c)}
        if vague:  # several may have fallen together; each of them has at most the rest
            best = _sure(best, vague, 1.0 - sum(math.exp(p) for p in held.values()))
        ids[n, : len(best)] = [i for i, _ in best]
        logprobs[n, : len(best)] = [p for _, p in best]
        total = sum(math.exp(p) for p in held.values())
        if total > 1.0 + SLACK:
            raise strange("its probabilities sum to more than 1")
        kept = float(np.exp(logprobs[n].astype(np.float64)).sum())
        missing[n] = max(1.0 - kept, 0.0)
        chosen[n] = row.came.logprob
    return Top(ids, logprobs, missing, chosen)
