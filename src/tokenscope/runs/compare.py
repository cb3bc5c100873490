"""Two traces beside each other: where they part, what differs, where they meet again."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokenscope.code.views import language_of, regions_of
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explore import python_shape, tree_shape
from tokenscope.explore.aligned import Cell, Equal, aligned, equal_stretches
from tokenscope.explore.divergence import Apart, of_bytes, of_tops
from tokenscope.trace.display import visible
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import LEVEL_BITS

if TYPE_CHECKING:
    import pandas as pd

    from tokenscope.decode.engine import Engine
    from tokenscope.runs.compare_syntax import Drift

# columns of which the tokens of a cell are added up; of all others the mean is taken
ADDED = ("logprob", "surprisal", "time_ms", "logprob_sampled", "logprob_inner", "logprob_masked")
AFTER = -1  # the place after the fork, among the numbers of cells
MEETS = 8  # bytes that have to agree, blanks not counted, for two texts to have met again
Change = Literal["equal", "changed", "only_a", "only_b"]


@dataclass(frozen=True, slots=True)
class Meeting:
    """A stretch after the fork in which both say the same: tokens of each, and how many bytes."""

    a: tuple[int, int]
    b: tuple[int, int]
    bytes: int


@dataclass(frozen=True, eq=False)
class Compared:
    """``a`` and ``b``, aligned by bytes into ``cells``.

    ``same_tokenizer``: ids mean the same on both sides. ``fork``: the first cell that differs, by
    its number (None: none does). ``meetings``: where they say the same again after it, for at
    least 8 bytes that are no blanks. ``apart``: cell number -> how far the distributions of its
    first token lie apart: up to the fork, and where they have met again. ``after_fork``: after
    the first tokens that differ: what the choice changes at once (None: another tokenizer).
    """

    a: Trace
    b: Trace
    cells: tuple[Cell, ...]
    same_tokenizer: bool
    fork: int | None
    meetings: tuple[Meeting, ...]
    apart: Mapping[int, Apart]
    after_fork: Apart | None = None

    # --- where they part and meet ----------------------------------------------------------------
    @property
    def meets(self) -> Meeting | None:
        """Where they first meet again; None: nowhere."""
        return self.meetings[0] if self.meetings else None

    @property
    def same_text(self) -> bool:
        """Whether both hold the same bytes."""
        return self.a.tokens.data == self.b.tokens.data

    @cached_property
    def same_shape(self) -> bool:
        """Whether both are the same code up to locals, formatting and comments."""
        one, two = language_of(self.a), language_of(self.b)
        if one != two:
            return False
        return _shape(self.a.tokens.data, one) == _shape(self.b.tokens.data, two)

    def joint(self) -> dict[str, dict[str, float]]:
        """Sums of logprob (nats) of each side: ``differs`` (the tokens of cells that differ),
        ``after`` (everything from the fork on), ``all``."""
        start = self.cells[self.fork] if self.fork is not None else None
        out: dict[str, dict[str, float]] = {"differs": {}, "after": {}, "all": {}}
        for side, trace in (("a", self.a), ("b", self.b)):
            logprob = _values(trace, "logprob")
            mine = [getattr(c, side) for c in self.cells if not c.same]
            first = getattr(start, side)[0] if start is not None else len(trace)
            out["differs"][side] = float(sum(np.nansum(logprob[s:e]) for s, e in mine))
            out["after"][side] = float(np.nansum(logprob[first:]))
            out["all"][side] = float(np.nansum(logprob))
        return out

    @property
    def at_fork(self) -> Apart | None:
        """How far the distributions lie apart where the texts part (for two branches of one model
        they are one distribution). None: they do not part, or not at a boundary of both."""
        return None if self.fork is None else self.apart.get(self.fork)

    # --- side by side ----------------------------------------------------------------------------
    def to_pandas(self, columns: Sequence[str] = ("surprisal", "entropy")) -> pd.DataFrame:
        """One row per cell: tokens and text of both sides, ``same``, kl, tv (low, high), and each
        column of both (additive ones summed over a cell, others averaged)."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(columns)))

    def rows(self, columns: Sequence[str] = ("surprisal", "entropy")) -> Iterator[dict[str, Any]]:
        """The rows of :meth:`to_pandas`. Raises UnknownName for a column that neither has."""
        held = {
            (side, n): _values(trace, n)
            for side, trace in (("a", self.a), ("b", self.b)) for n in columns
            if n in trace.columns or n not in {**self.a.columns, **self.b.columns}
        }  # fmt: skip
        for number, cell in enumerate(self.cells):
            apart = self.apart.get(number)
            row: dict[str, Any] = {
                "a": list(cell.a), "b": list(cell.b), "same": cell.same,
                "text_a": self.a.tokens.slice(*cell.a).text,
                "text_b": self.b.tokens.slice(*cell.b).text,
                "kl": None if apart is None else apart.kl,
                "tv_low": None if apart is None else apart.low,
                "tv_high": None if apart is None else apart.high,
            }  # fmt: skip
            for name in columns:
                for side in ("a", "b"):
                    values = held.get((side, name))
                    row[f"{name}_{side}"] = _over(values, getattr(cell, side), name)
            yield row

    def rollup(self, column: str, by: str = "statement", **options: Any) -> pd.DataFrame:
        """Roll-ups of both side by side: a row per region of either, matched where it holds the
        same stretch of text, or is the only one of its kind and name on both sides. Columns
        of ``trace.rollup`` with ``_a`` and ``_b``."""
        one = self.a.rollup(column, by, **options)
        two = self.b.rollup(column, by, **options)
        stretches = equal_stretches(self.a.tokens.data, self.b.tokens.data)
        shown = ["kind", "name", "start", "end", "count", "mean", "sum", "max"]
        one, two = one[shown].copy(), two[shown].copy()
        one["_at"] = [f"{s}:{e}" for s, e in zip(one.start, one.end, strict=True)]
        two["_at"] = _places(one, two, stretches)
        both = one.merge(two, on=["_at", "kind", "name"], how="outer", suffixes=("_a", "_b"))
        order = both.start_a.fillna(both.start_b)
        return both.assign(_order=order).sort_values(["_order", "end_a"], kind="stable").drop(
            columns=["_order", "_at"]).reset_index(drop=True)  # fmt: skip

    def syntax(self) -> list[dict[str, Any]]:
        """Statements (by their first line) that changed, or stand on one side only, in order."""
        from difflib import SequenceMatcher

        one, two = _statements(self.a), _statements(self.b)
        keys: list[list[str]] = [[s["text"] for s in side] for side in (one, two)]
        out: list[dict[str, Any]] = []
        for tag, i, j, k, m in SequenceMatcher(None, keys[0], keys[1], False).get_opcodes():
            if tag == "equal":
                continue
            for n in range(max(j - i, m - k)):
                a = one[i + n] if n < j - i else None
                b = two[k + n] if n < m - k else None
                change: Change = "changed" if a and b else "only_a" if a else "only_b"
                out.append({"change": change, "a": a, "b": b})
        return out

    def to_json(self, columns: Sequence[str] = ("surprisal", "entropy")) -> dict[str, Any]:
        """One plain document."""
        fork = None if self.fork is None else self.cells[self.fork]
        place = None
        if fork is not None:
            place = {"a": fork.a[0], "b": fork.b[0], "byte": int(self.a.tokens.offsets[fork.a[0]])}
        return {
            "same_text": self.same_text, "same_shape": self.same_shape,
            "same_tokenizer": self.same_tokenizer, "fork": place,
            "at_fork": _plain(self.at_fork), "after_fork": _plain(self.after_fork),
            "meets": [{"a": list(m.a), "b": list(m.b), "bytes": m.bytes} for m in self.meetings],
            "joint_logprob": self.joint(), "mean_apart": self.mean_apart(),
            "syntax": self.syntax(), "cells": [_finite(r) for r in self.rows(columns)],
            "summary": {"a": _finite(self.a.summary()), "b": _finite(self.b.summary())},
        }  # fmt: skip

    def mean_apart(self) -> dict[str, Any]:
        """Means over the places where both stand at the same text: ``kl``, ``tv_low``,
        ``tv_high``, and the largest ``tv_low``; ``n`` places."""
        found = list(self.apart.values())
        kls = [x.kl for x in found if x.kl is not None and np.isfinite(x.kl)]
        return {
            "n": len(found), "exact": bool(found) and all(x.exact for x in found),
            "kl": float(np.mean(kls)) if kls else None,
            "tv_low": float(np.mean([x.low for x in found])) if found else None,
            "tv_high": float(np.mean([x.high for x in found])) if found else None,
            "tv_most": max((x.low for x in found), default=None),
        }  # fmt: skip

    def drift(
        self, columns: Sequence[str] = ("surprisal", "entropy"), language: str | None = None
    ) -> Drift:
        """One text under two models: what moved by kind of syntax, where the likeliest choices
        flip, differences as columns; see ``tokenscope.runs.compare_syntax``."""
        from tokenscope.runs.compare_syntax import drift

        return drift(self, columns, language)

    def _repr_html_(self) -> str:
        sides = []
        for side, trace in (("a", self.a), ("b", self.b)):
            parts = []
            for cell in self.cells:
                text = html.escape(visible(trace.tokens.slice(*getattr(cell, side)).text))
                parts.append(text if cell.same else f"<mark>{text}</mark>")
            name = html.escape(trace.origin.model or side)
            sides.append(
                f"<td style='vertical-align:top'><b>{name}</b><pre>{''.join(parts)}</pre></td>"
            )
        return f"<table><tr>{''.join(sides)}</tr></table>"


def compare(
    a: Trace, b: Trace, models: tuple[Engine | None, Engine | None] = (None, None),
    control: Control = QUIET,
) -> Compared:  # fmt: skip
    """Put two traces side by side.

    Without models the distance of distributions is bounded by the alternatives that the traces
    keep; with the models that made them it is exact (same tokenizer; traces without edits inside
    the model). Raises InputError for a model that did not make its trace, Cancelled.
    """
    digests = a.origin.tokenizer_digest, b.origin.tokenizer_digest
    same = digests[0] == digests[1] or _same_words(*models)
    cells = aligned(a.tokens, b.tokens)
    fork = next((n for n, c in enumerate(cells) if not c.same), None)
    meetings = tuple(_meetings(a, cells, fork))
    places = _comparable(cells, fork, meetings, (len(a), len(b)))
    one, two = models
    if fork is not None and same:
        first = cells[fork]
        if first.a[0] + 1 < len(a) and first.b[0] + 1 < len(b):
            places[AFTER] = (first.a[0] + 1, first.b[0] + 1)
    if one is not None and two is not None and same:
        from tokenscope.runs.compare_exact import distances

        apart = distances((a, one), (b, two), places, control)
    else:
        apart = {n: x for n, p in places.items() if (x := _bounds(a, b, p, same)) is not None}
    after = apart.pop(AFTER, None)
    return Compared(a, b, tuple(cells), same, fork, meetings, apart, after)


def _same_words(one: Engine | None, two: Engine | None) -> bool:
    """Whether ids mean the same to both, though their files differ (a GGUF file and its twin)."""
    if one is None or two is None or not one.info.vocab or one.info.vocab != two.info.vocab:
        return False
    a, b = one.vocabulary, two.vocabulary
    return all(a.piece(i) == b.piece(i) for i in range(one.info.vocab))


def _meetings(a: Trace, cells: Sequence[Cell], fork: int | None) -> Iterator[Meeting]:
    run: list[Cell] = []
    for cell in [*cells[fork if fork is not None else len(cells) :], None]:
        if cell is not None and cell.same:
            run.append(cell)
            continue
        if run:
            one, two = (run[0].a[0], run[-1].a[1]), (run[0].b[0], run[-1].b[1])
            text = a.tokens.slice(*one).data
            if len(b"".join(text.split())) >= MEETS:
                yield Meeting(one, two, len(text))
        run = []


def _comparable(
    cells: Sequence[Cell], fork: int | None, meetings: Sequence[Meeting], sizes: tuple[int, int]
) -> dict[int, tuple[int, int]]:
    """Cell number -> its first tokens, where both sides have just said the same thing."""
    met = [m.a for m in meetings]
    out: dict[int, tuple[int, int]] = {}
    for n, cell in enumerate(cells):
        t, u = cell.a[0], cell.b[0]
        near = fork is None or n <= fork or any(s < t < e for s, e in met)
        if near and 0 < t < sizes[0] and 0 < u < sizes[1]:
            out[n] = (t, u)
    return out


def _bounds(a: Trace, b: Trace, place: tuple[int, int], same: bool) -> Apart | None:
    tops = []
    for trace, t in ((a, place[0]), (b, place[1])):
        held = trace.alternatives
        if held is None or not (held.ids[t] >= 0).any():
            return None
        row = held.row(t)
        if same:
            tops.append({x.id: x.logprob for x in row})
            continue
        masses: dict[int, float] = {}
        for x in row:
            first = x.bytes[0] if x.bytes else -1
            masses[first] = masses.get(first, 0.0) + float(np.exp(np.float64(x.logprob)))
        tops.append(masses)
    return of_tops(*tops) if same else of_bytes(*tops)


def _values(trace: Trace, name: str) -> Any:
    return trace.column(name).astype(np.float64)


def _over(values: Any, span: tuple[int, int], name: str) -> float | None:
    if values is None or span[0] == span[1]:
        return None
    part = values[span[0] : span[1]]
    if not np.isfinite(part).any():
        return None
    return float(np.nansum(part) if name in ADDED else np.nanmean(part))


def _shape(data: bytes, language: str) -> str:
    if language == "python":
        return python_shape.shape(data.decode("utf-8", "replace"))
    if language in ("text", "markdown"):
        return data.decode("utf-8", "surrogateescape")
    return tree_shape.shape(data, language)


def _across(stretches: Sequence[Equal], start: int, end: int) -> tuple[int, int] | None:
    """Where bytes ``start..end`` of b stand in a; None where not as they are."""
    for s in stretches:
        if s.b <= start and end <= s.b + s.size:
            return start - s.b + s.a, end - s.b + s.a
    return None


def _places(one: pd.DataFrame, two: pd.DataFrame, stretches: Sequence[Equal]) -> list[str]:
    """Where each region of b stands in a, as a's own mark; a mark of its own where nowhere."""
    found: list[str] = []
    for n, (start, end) in enumerate(zip(two.start, two.end, strict=True)):
        at = _across(stretches, int(start), int(end))
        found.append(f"{at[0]}:{at[1]}" if at else f"b{n}")
    free = _single(one[~one["_at"].isin(found)])
    lost = two.assign(_at=found)
    for key, mark in _single(lost[lost["_at"].str.startswith("b")]).items():
        if key in free:
            found[found.index(mark)] = free[key]
    return found


def _single(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(kind, name) -> mark, of what is the only one of its kind and name."""
    marks: dict[tuple[str, str], list[str]] = {}
    for kind, name, mark in zip(frame["kind"], frame["name"], frame["_at"], strict=True):
        marks.setdefault((kind, name), []).append(mark)
    return {key: held[0] for key, held in marks.items() if len(held) == 1}


def _statements(trace: Trace) -> list[dict[str, Any]]:
    regions, data = regions_of(trace), trace.tokens.data
    out = []
    for i in np.nonzero(regions.level & LEVEL_BITS["statement"])[0]:
        start, end = int(regions.start[i]), int(regions.end[i])
        line = data[start:end].split(b"\n", 1)[0].decode("utf-8", "replace")
        out.append({
            "kind": regions.kinds[int(regions.kind[i])], "text": " ".join(line.split()),
            "line": data.count(b"\n", 0, start) + 1,
        })  # fmt: skip
    return out


def _plain(apart: Apart | None) -> dict[str, Any] | None:
    if apart is None:
        return None
    kl = apart.kl if apart.kl is not None and np.isfinite(apart.kl) else None
    return {
        "kl": kl, "tv_low": apart.low, "tv_high": apart.high, "exact": apart.exact,
        "over": apart.over,
    }  # fmt: skip


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


def checked(trace: Trace, engine: Engine) -> None:
    """Raises InputError when another model made the trace."""
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        raise InputError("models", "a trace was made by another model than the one given for it")
