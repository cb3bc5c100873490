"""Pieces of a sequence become one trace: order, quality, gaps, what some of them lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenscope.errors import InputError
from tokenscope.trace import Alternatives, Attention, Part, Tokens, Trace
from tokenscope.trace.join import LOST, join


def part(start: int, text: str, **columns: float) -> Part:
    tokens = Tokens.of([ord(c) for c in text], [c.encode() for c in text])
    return Part(start, tokens, {n: np.full(len(text), v, np.float32) for n, v in columns.items()})


def test_a_column_is_as_good_as_its_worst_piece() -> None:
    bound = Part(
        2, Tokens.of([9], [b"c"]), {"entropy": np.ones(1, np.float32)},
        quality={"entropy": "bound"},
    )  # fmt: skip
    made = join(None, [part(0, "ab", entropy=1, rank=1), bound])
    assert made.columns["entropy"].quality == "bound"
    assert made.columns["rank"].quality == "exact"
    assert made.column("rank").tolist()[:2] == [1, 1]
    assert np.isnan(made.column("rank")[2])
    more = join(made, [part(3, "d", entropy=1)])
    assert more.columns["entropy"].quality == "bound"


def test_what_is_lost_keeps_its_place() -> None:
    rows = [Attention("full", (0,), 1, t, np.ones(t, np.float16)) for t in (1, 4)]
    parts = [part(0, "a"), part(1, "b"), part(4, "e", entropy=2)]
    measured = [replace(p, attention=a) for p, a in zip(parts[1:], rows, strict=True)]
    made = join(None, [parts[0], *measured])
    assert made.ids.tolist() == [97, 98, -1, -1, 101]
    assert [t.text for t in made.tokens] == ["a", "b", LOST, LOST, "e"]
    assert made.column("entropy")[4] == 2
    assert made.attention is not None
    assert made.attention.first == 4  # the run of rows that reaches the end
    with pytest.raises(InputError, match="twice"):
        join(None, [part(0, "ab"), part(1, "c")])


def test_alternatives_of_different_width() -> None:
    def with_table(p: Part, k: int) -> Part:
        n = len(p.tokens)
        table = Alternatives(np.full((n, k), k), np.zeros((n, k)), {k: b"x" * k})
        return Part(p.start, p.tokens, p.columns, table)

    made = join(None, [part(0, "p"), with_table(part(1, "q"), 1), with_table(part(2, "r"), 3)])
    assert made.alternatives is not None
    assert made.alternatives.ids.tolist() == [[-1, -1, -1], [1, -1, -1], [3, 3, 3]]
    assert made.alternatives.pieces == {1: b"x", 3: b"xxx"}


def test_the_prompt_ends_where_decoding_began() -> None:
    given = Part(0, Tokens.of([1, 2], [b"a", b"b"]), {}, prompt=True)
    assert join(None, [given, part(2, "c")]).n_prompt == 2
    base = Trace(given.tokens, 1)
    assert join(base, [part(2, "c")]).n_prompt == 1
    assert join(base, [part(2, "c")], n_prompt=3).n_prompt == 3
