"""Private spans: what a client's text may hold and no record may.

The model reads and writes the text as it is; what is written down, shown and kept lacks it. A
token that overlaps a span stands as ``<redacted>``: no id, no bytes, no numbers, no alternatives.
Patterns are looked for in the whole of what was given, and in what is made line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.trace import Alternatives, Tokens, Trace
from tokenscope.trace.columns import Column
from tokenscope.trace.origin import Request

LABEL = "<redacted>"
WORDS = "[redacted]"
KEPT = "time_ms"  # the one number that tells nothing of the text
NAMED = {
    "secrets": (
        r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}"
        r"|\bxox[baprs]-[A-Za-z0-9-]{10,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
        r"|(?i:password|passwd|secret|token|api_?key)[\"']?\s*[:=]\s*[\"'][^\"'\n]{4,}[\"']"
    ),
    "emails": r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b",
}
Mask = NDArray[np.bool_]


class Redaction:
    """Patterns, each a regular expression or a name of :data:`NAMED`. Raises InputError."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = []
        for given in patterns:
            try:
                self._patterns.append(re.compile(NAMED.get(given, given).encode()))
            except re.error as error:
                raise InputError("--recorder-redact", f"is no pattern: {error}") from None

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Byte ranges that are private."""
        return [m.span() for p in self._patterns for m in p.finditer(data) if m.end() > m.start()]

    def text(self, text: str | None) -> str | None:
        """A text without them."""
        if text is None:
            return None
        data, out, at = text.encode("utf-8", "surrogatepass"), b"", 0
        for start, end in sorted(self.spans(data)):
            if start >= at:
                out += data[at:start] + WORDS.encode()
            at = max(at, end)
        return (out + data[at:]).decode("utf-8", "replace")

    def request(self, asked: Request) -> Request:
        """A request as it may be kept."""
        messages = asked.messages
        if messages is not None:
            messages = tuple({k: self.text(v) or "" for k, v in m.items()} for m in messages)
        return replace(
            asked, prompt=self.text(asked.prompt), suffix=self.text(asked.suffix), messages=messages
        )


class Redacted:
    """The mask of one run, as its tokens come. ``given``: all that stands before the first one."""

    def __init__(self, patterns: Redaction, given: Tokens) -> None:
        self._patterns = patterns
        self._mask: Mask = np.zeros(0, np.bool_)
        self._add(given, self._within(given, b""))
        self._line = given.data[given.data.rfind(b"\n") + 1 :]
        self._waiting: list[Step] = []

    def ready(self, step: Step | None) -> list[Step]:
        """The steps that may be written down now; ``None``: there are no more."""
        if step is not None and step.start < len(self._mask):
            return [self._masked(step)]  # given tokens
        if step is not None:
            self._waiting.append(step)
        if not self._waiting or (step is not None and b"\n" not in step.tokens.data):
            return []
        held, self._waiting = self._waiting, []
        tokens = held[0].tokens
        for other in held[1:]:
            tokens = tokens.joined(other.tokens)
        self._add(tokens, self._within(tokens, self._line))
        whole = self._line + tokens.data
        self._line = whole[whole.rfind(b"\n") + 1 :]
        return [self._masked(s) for s in held]

    def trace(self, trace: Trace) -> Trace:
        """What of a trace may be kept: its settled tokens, masked."""
        trace = trace.cut(len(self._mask))
        mask = self._mask[: len(trace)]
        origin = replace(trace.origin, request=self._patterns.request(trace.origin.request))
        if not mask.any():
            return replace(trace, origin=origin)
        columns = {
            n: Column(n, _blank(n, c.values, mask), c.quality, c.spec)
            for n, c in trace.columns.items()
        }
        return replace(
            trace, tokens=_tokens(trace.tokens, mask), columns=columns, origin=origin,
            alternatives=_alternatives(trace.alternatives, mask),
        )  # fmt: skip

    def _within(self, tokens: Tokens, before: bytes) -> Mask:
        mask = np.zeros(len(tokens), np.bool_)
        starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
        for start, end in self._patterns.spans(before + tokens.data):
            start, end = start - len(before), end - len(before)
            mask |= (starts < end) & (ends > start) & (ends > starts)
        return mask

    def _add(self, tokens: Tokens, mask: Mask) -> None:
        self._mask = np.concatenate([self._mask, mask])

    def _masked(self, step: Step) -> Step:
        mask = self._mask[step.start : step.end]
        if not mask.any():
            return step
        return replace(
            step, tokens=_tokens(step.tokens, mask),
            columns={n: _blank(n, v, mask) for n, v in step.columns.items()},
            alternatives=_alternatives(step.alternatives, mask),
        )  # fmt: skip


def _tokens(tokens: Tokens, mask: Mask) -> Tokens:
    ids = np.where(mask, -1, tokens.ids)
    pieces = [b"" if hidden else p for p, hidden in zip(tokens.pieces(), mask, strict=True)]
    labels = {**tokens.labels, **{int(n): LABEL for n in np.nonzero(mask)[0]}}
    return Tokens.of(ids.tolist(), pieces, labels)


def _blank(name: str, values: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    if name == KEPT:
        return values
    return np.where(mask, np.float32(np.nan), values).astype(np.float32)


def _alternatives(table: Alternatives | None, mask: Mask) -> Alternatives | None:
    if table is None:
        return None
    ids = np.where(mask[:, None], -1, table.ids).astype(np.int32)
    logprobs = np.where(mask[:, None], -np.inf, table.logprobs).astype(np.float32)
    left = set(ids.ravel().tolist())
    return Alternatives(ids, logprobs, _only(table.pieces, left), _only(table.labels, left))


def _only(held: Mapping[int, Any], ids: set[int]) -> dict[int, Any]:
    return {i: v for i, v in held.items() if i in ids}


def patterns_of(given: Sequence[str] | None) -> Redaction | None:
    """Of the command line; None where nothing is to be hidden."""
    return Redaction(given) if given else None
