"""What an explanation is: a value with columns, tables and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tokenscope.errors import UnknownName
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.gradients import F32
from tokenscope.explain.places import byte_sums, line_at, line_starts
from tokenscope.explain.sentence import Evidence, Reason, beside
from tokenscope.explain.target import Target
from tokenscope.trace.drawn import Drawn
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values; ``definitions`` names what the numbers mean.

    ``refused``: there are no rows, and ``note`` says why.
    """

    name: str
    rows: tuple[Row, ...]
    definitions: tuple[str, ...] = ()
    note: str = ""
    refused: bool = False

    def plain(self) -> list[dict[str, Any]]:
        """The rows as JSON takes them: no NaN, no numpy."""
        return [_plain(row) for row in self.rows]


@dataclass(frozen=True, eq=False)
class Explanation(Drawn):
    """Why token ``target.at``: one attribution, a sentence, and what else was asked for.

    ``values`` float32 (at,) nats per token before it. ``value`` is f(x): ln p(A), or z_A - z_B.
    ``gap`` is the completeness gap, sum(values) - [f(e) - f(e')]; None where the method claims no
    completeness. ``evidence`` stands beside the sentence. ``converged`` False: the values must
    not be used, ``note`` says why.
    """

    trace: Trace
    target: Target
    token: str
    contrast: str | None
    method: str
    values: F32
    value: float
    gap: float | None
    converged: bool
    note: str
    sentence: str
    reasons: tuple[Reason, ...] = ()
    logprob_a: float = float("nan")
    logprob_b: float | None = None
    evidence: Evidence | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)

    pictures: ClassVar[tuple[str, ...]] = ("why",)

    @property
    def beside(self) -> str:
        """The evidence beside the sentence, in words: f without the text, rank, recency."""
        return beside(self.evidence, self.value) if self.evidence is not None else ""

    def table(self, name: str) -> pd.DataFrame:
        """One of ``tables`` as a frame. Raises UnknownName, which lists those that were made."""
        import pandas as pd

        if name not in self.tables:
            raise UnknownName("table", name, self.tables)
        return pd.DataFrame(list(self.tables[name].rows))

    def to_pandas(self) -> pd.DataFrame:
        """One row per token before ``at``: index, text, start, end, line, value."""
        import pandas as pd

        tokens = self.trace.tokens
        n = len(self.values)
        starts = line_starts(tokens.data)
        return pd.DataFrame({
            "index": np.arange(n),
            "text": [tokens[i].text for i in range(n)],
            "start": tokens.offsets[:n],
            "end": tokens.offsets[1 : n + 1],
            "line": [line_at(starts, int(o)) for o in tokens.offsets[:n]],
            "value": self.values,
        })  # fmt: skip

    def by_region(self, level: str = "statement") -> list[dict[str, Any]]:
        """Sums per region of a level (``line`` needs no grammar), heaviest first.

        A token's value is spread evenly over its bytes, so disjoint regions add up exactly.
        """
        return region_sums(self.trace, self.values, level)

    def to_json(self) -> dict[str, Any]:
        """One plain document: no NaN, every number with the name of its definition."""
        rows = [
            {"index": i, "text": t.text, "start": t.start, "end": t.end, "value": _number(v)}
            for i, (t, v) in enumerate(zip(self.trace.tokens, self.values, strict=False))
        ]
        used = {self.method, self.target.kind, "share", "prior", "span_rank", "recency"}
        used |= {d for t in self.tables.values() for d in t.definitions}
        return {
            "sentence": self.sentence, "at": self.target.at, "token": self.token,
            "token_id": self.target.a, "contrast": self.contrast, "contrast_id": self.target.b,
            "method": self.method, "value": _number(self.value), "gap": _number(self.gap),
            "converged": self.converged, "note": self.note,
            "logprob": _number(self.logprob_a), "logprob_contrast": _number(self.logprob_b),
            "evidence": None if self.evidence is None else _plain(asdict(self.evidence)),
            "beside": self.beside,
            "tokens": rows,
            "reasons": [
                {
                    "text": r.span.text, "line": r.span.line, "start": r.span.start,
                    "end": r.span.end, "kind": r.span.kind, "attribution": _number(r.attribution),
                    "drop": _number(r.drop),
                }
                for r in self.reasons
            ],
            "tables": {
                t.name: {
                    "rows": t.plain(), "note": t.note, "refused": t.refused,
                    "definitions": list(t.definitions),
                }
                for t in self.tables.values()
            },
            "definitions": {
                name: {"title": d.title, "unit": d.unit, "formula": d.formula,
                       "source": d.source, "limits": d.limits}
                for name, d in DEFINITIONS if name in used
            },
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Explanation of token {self.target.at} by {self.method}: {self.sentence}>"


def region_sums(trace: Trace, values: F32, level: str) -> list[dict[str, Any]]:
    """Rows ``level, kind, name, start, end, line, value``, heaviest first. Raises UnknownName."""
    from tokenscope.explain.places import regions_of

    data = trace.tokens.data
    sums, starts = byte_sums(trace.tokens, values), line_starts(data)
    until = int(trace.tokens.offsets[len(values)])
    spans: list[tuple[int, int, str, str | None]] = []
    if level == "line":
        ends = [*starts[1:].tolist(), len(data)]
        spans = [(int(s), e, "line", None) for s, e in zip(starts, ends, strict=True)]
    else:
        regions = regions_of(trace)
        if regions is not None:
            for i in regions.of(level):
                r = regions[int(i)]
                spans.append((r.start, r.end, r.kind, r.name))
    rows = [
        {"level": level, "kind": kind, "name": name, "start": start, "end": end,
         "line": line_at(starts, start), "value": float(sums[end] - sums[start])}
        for start, end, kind, name in spans if start < until and end > start
    ]  # fmt: skip
    return sorted(rows, key=lambda r: -abs(float(str(r["value"]))))


def _number(value: float | np.floating[Any] | None) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return float(value)


def _plain(row: Row) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, float | np.floating):
            out[key] = _number(value)
        elif isinstance(value, np.integer):
            out[key] = int(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            out[key] = [_number(v) if isinstance(v, float | np.floating) else v for v in value]
        else:
            out[key] = value
    return out
