"""A finding: what an analyser detected in a text, tied to bytes and tokens.

A finding says that a rule matched, no more: it is *analyser-detected*. Whether the code is
vulnerable is a judgement for a person, and no finding does not mean that nothing is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from tokenscope.errors import InputError
from tokenscope.trace.tokens import Tokens

Grade = Literal["low", "medium", "high"]
GRADES: tuple[Grade, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule`` (``source/name``) matched the bytes ``start..end`` of a text.

    ``cwe``: number of the weakness in MITRE's list, 0 where none fits. ``tokens``: the half-open
    range of tokens that hold these bytes, None where the text has no tokens. ``severity`` and
    ``confidence`` are the analyser's own. ``source``: which check found it.
    """

    rule: str
    message: str
    start: int
    end: int
    source: str
    cwe: int = 0
    severity: Grade = "medium"
    confidence: Grade = "medium"
    tokens: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise InputError("finding", "its bytes must be a range")
        if self.severity not in GRADES or self.confidence not in GRADES:
            raise InputError("finding", f"severity and confidence: one of {', '.join(GRADES)}")

    @property
    def weakness(self) -> str:
        """``CWE-78``, or "" where none fits."""
        return f"CWE-{self.cwe}" if self.cwe else ""

    def at(self, tokens: Tokens) -> Finding:
        """The same with the range of tokens that overlap its bytes.

        A finding without bytes (something is missing at a place) takes the token before it.
        """
        size = len(tokens.data)
        if not len(tokens) or not size:
            return replace(self, tokens=None)
        start, end = min(self.start, size - 1), min(self.end, size)
        if end <= start:
            start, end = max(start - (self.start < size), 0), max(start, 1)
        first = int(np.searchsorted(tokens.offsets, start, side="right")) - 1
        last = int(np.searchsorted(tokens.offsets, end, side="left"))
        return replace(self, tokens=(first, last))

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {**asdict(self), "tokens": None if self.tokens is None else list(self.tokens)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Read back what :meth:`to_json` wrote; keys of a newer version are left out."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        if known.get("tokens") is not None:
            known["tokens"] = (int(known["tokens"][0]), int(known["tokens"][1]))
        return cls(**known)
