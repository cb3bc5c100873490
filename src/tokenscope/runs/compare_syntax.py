"""One text under two models: what moved, over the kinds of syntax, and where the choices flip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.code.align import Alignment
from tokenscope.code.views import structure
from tokenscope.errors import AbilityError, InputError
from tokenscope.explore.aligned import Cell
from tokenscope.runs.compare import ADDED, Compared, compare
from tokenscope.runs.generate import begin, score
from tokenscope.runs.settings import Settings
from tokenscope.trace.origin import Request
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import CATEGORIES

if TYPE_CHECKING:
    from tokenscope.decode.engine import Engine
    from tokenscope.runs.run import Run

COLUMNS = ("surprisal", "entropy")


@dataclass(frozen=True, slots=True)
class Flip:
    """Where the likeliest next token of one model is no token of the other's: before token ``t`` of
    the first trace. ``a``, ``b``: their bytes (or literals of special tokens), with their
    probabilities; ``category``: of what stands there."""

    t: int
    byte: int
    category: str
    a: bytes
    b: bytes
    p_a: float
    p_b: float


@dataclass(frozen=True, eq=False)
class Drift:
    """``trace``: the first one, with ``<column>_difference`` (second less first, NaN where there is
    none), ``flip`` (1 or 0) and ``kl_between`` (nats). ``kinds``: the kind of syntax of each cell;
    ``categories``: a row per kind, most moved first. ``places``: positions at which both choices
    are known; ``exact``: the KL is of whole distributions, else a lower bound."""

    trace: Trace
    flips: tuple[Flip, ...]
    categories: tuple[dict[str, Any], ...]
    places: int
    exact: bool
    kinds: tuple[str, ...] = ()

    @property
    def flipped(self) -> float | None:
        """The share of places at which the choice is another one."""
        return len(self.flips) / self.places if self.places else None

    def to_json(self) -> dict[str, Any]:
        """One plain document; bytes as text, what is not UTF-8 as U+FFFD."""
        text = lambda b: b.decode("utf-8", "replace")
        return {
            "places": self.places, "flipped": self.flipped, "exact": self.exact,
            "categories": list(self.categories),
            "flips": [
                {"t": f.t, "byte": f.byte, "category": f.category, "a": text(f.a), "b": text(f.b),
                 "p_a": f.p_a, "p_b": f.p_b}
                for f in self.flips
            ],
        }  # fmt: skip


def compare_models(one: Engine, two: Engine, text: str, *, language: str = "") -> Compared:
    """Let both models read one text (teacher forcing) and put what they say side by side; the
    distances are exact where both have the same tokens and tell whole distributions.

    ``.drift()`` tells where by syntax. Raises CapacityError, InputError.
    """
    from tokenscope.runs.windows import score

    if not text:
        raise InputError("text", "is empty")
    a, b = (score(m, text, language=language).result() for m in (one, two))
    both = all(m.abilities.scores == "full" for m in (one, two))
    return compare(a, b, (one, two) if both else (None, None))


def read_by(engine: Engine, trace: Trace, *, alternatives: int = 10) -> Run:
    """A trace's text read by another model, every token measured (teacher forcing), to be held
    beside it: the very ids where both have the same tokens (marks of a chat, too), else its text.

    Raises CapacityError where it does not fit, InputError.
    """
    if trace.origin.tokenizer_digest != engine.info.tokenizer_digest:
        return score(engine, trace.text, language=trace.language, alternatives=alternatives)
    settings = Settings(max_new_tokens=0, alternatives=alternatives, attention="none")
    asked = Request(prompt=trace.text, start_token=trace.tokens.labels.get(0, ""))
    return begin(engine, trace.tokens, "score", settings, language=trace.language, request=asked)


def drift(
    found: Compared, columns: Sequence[str] = COLUMNS, language: str | None = None
) -> Drift:  # fmt: skip
    """What moved between two traces of one text. A cell counts to the kind that most of its bytes
    are of, blanks only where there is nothing else.

    Raises AbilityError where the texts differ, UnknownName for a column that neither has.
    """
    a = found.a
    if not found.same_text:
        raise AbilityError("drift is told of one text under two models; these texts differ")
    kinds = _kinds(found, structure(a, language))
    rows = list(found.rows(columns))
    flips = dict(_flips(found, kinds))
    made = a
    for name in columns:
        made = made.with_column(f"{name}_difference", *_difference(found, rows, name))
    flag, kl = (np.full(len(a), np.nan, dtype=np.float32) for _ in range(2))
    for n, flip in flips.items():
        flag[found.cells[n].a[0]] = float(flip is not None)
    for n, apart in found.apart.items():
        if apart.kl is not None:
            kl[found.cells[n].a[0]] = apart.kl
    exact = bool(found.apart) and all(x.exact and x.over == "tokens" for x in found.apart.values())
    made = made.with_column("flip", flag).with_column(
        "kl_between", kl, "exact" if exact else "bound"
    )
    table = [_category(found, k, kinds, rows, flips, columns) for k in dict.fromkeys(kinds)]
    first = f"{columns[0]}_moved" if columns else "flips"
    table.sort(key=lambda r: -(r[first] or 0) * r["cells"])
    there = tuple(f for f in flips.values() if f is not None)
    return Drift(made, there, tuple(table), len(flips), exact, tuple(kinds))


def _kinds(found: Compared, held: Alignment) -> list[str]:
    bytes_ = np.zeros((len(found.a), len(CATEGORIES)))
    np.add.at(bytes_, (held.token, held.category), held.weight)
    for blank in ("whitespace", "indentation"):
        bytes_[:, CATEGORIES.index(blank)] *= 1e-6
    bytes_[:, CATEGORIES.index("other")] += 1e-12
    return [CATEGORIES[int(bytes_[slice(*c.a)].sum(0).argmax())] for c in found.cells]


def _flips(found: Compared, kinds: Sequence[str]) -> Iterator[tuple[int, Flip | None]]:
    """Cell number -> what flipped there, or None where both choose the same; cells at which a
    choice is not known are left out."""
    a, b = found.a, found.b
    if a.alternatives is None or b.alternatives is None:
        return
    for n, cell in enumerate(found.cells):
        t, u = cell.a[0], cell.b[0]
        one, two = a.alternatives.row(t)[:1], b.alternatives.row(u)[:1]
        if not one or not two:
            continue
        x, y = one[0], two[0]
        said = [c.label.encode() if c.label is not None else c.bytes for c in (x, y)]
        same = said[0] == said[1]
        if not found.same_tokenizer and x.label is None is y.label and all(said):
            same = said[0].startswith(said[1]) or said[1].startswith(said[0])
        p, q = float(np.exp(x.logprob)), float(np.exp(y.logprob))
        byte = int(a.tokens.offsets[t])
        yield n, None if same else Flip(t, byte, kinds[n], said[0], said[1], p, q)


def _difference(
    found: Compared, rows: Sequence[dict[str, Any]], name: str
) -> tuple[NDArray[np.float32], Any]:
    """The column over the tokens of the first: a cell of several tokens shares its difference by
    bytes where values add up, else all have that of the means."""
    out = np.full(len(found.a), np.nan, dtype=np.float32)
    whole = True
    for cell, row in zip(found.cells, rows, strict=True):
        one, two = row[f"{name}_a"], row[f"{name}_b"]
        if one is None or two is None:
            continue
        whole &= cell.paired
        span = slice(*cell.a)
        out[span] = (two - one) * (_shares(found.a, cell) if name in ADDED else 1.0)
    return out, "exact" if whole else "estimate"


def _shares(trace: Trace, cell: Cell) -> NDArray[np.float64]:
    sizes = np.diff(trace.tokens.offsets[cell.a[0] : cell.a[1] + 1]).astype(np.float64)
    return sizes / sizes.sum() if sizes.sum() else np.full(len(sizes), 1 / len(sizes))


def _category(
    found: Compared, kind: str, kinds: Sequence[str], rows: Sequence[dict[str, Any]],
    flips: dict[int, Flip | None], columns: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """``cells``; of each column the means of both sides, of their difference and of its absolute
    value (``moved``); mean ``kl``; ``flips`` of ``places``."""
    mine = [n for n, k in enumerate(kinds) if k == kind]
    out: dict[str, Any] = {"category": kind, "cells": len(mine)}
    for name in columns:
        pairs = np.array([
            (rows[n][f"{name}_a"], rows[n][f"{name}_b"]) for n in mine
            if rows[n][f"{name}_a"] is not None and rows[n][f"{name}_b"] is not None
        ], dtype=np.float64).reshape(-1, 2)  # fmt: skip
        gap = pairs[:, 1] - pairs[:, 0]
        out[f"{name}_a"], out[f"{name}_b"] = (_mean(pairs[:, i]) for i in (0, 1))
        out[f"{name}_difference"], out[f"{name}_moved"] = _mean(gap), _mean(np.abs(gap))
    kls = [x.kl for n in mine if (x := found.apart.get(n)) is not None and x.kl is not None]
    out["kl"] = _mean(np.array([k for k in kls if np.isfinite(k)]))
    known = [flips[n] for n in mine if n in flips]
    out["flips"], out["places"] = sum(f is not None for f in known), len(known)
    return out


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
