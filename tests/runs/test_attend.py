"""Attention computed again: bounded in memory, without logits, and it can be stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tokenscope.backends.protocol import Extension, Feed
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.control import Cancelled, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import CapacityError
from tokenscope.runs import attend
from tokenscope.runs.generate import score
from tokenscope.trace.record import Trace


class Watched(ScriptedBackend):
    """Notes the feeds that it is given."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.feeds: list[Feed] = []

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        self.feeds += feeds
        return super().extend_many(feeds)


@pytest.fixture(params=["crop", "copy"])
def scored(request: pytest.FixtureRequest) -> tuple[Engine, Watched, Trace]:
    backend = Watched(fork=request.param, context=4096)
    engine = Engine(backend)
    trace = score(engine, "a text of some length; " * 60).result()
    engine.prefixes.clear()
    backend.feeds.clear()
    return engine, backend, trace


def test_windows_are_the_rows_and_no_logits_are_made(
    scored: tuple[Engine, Watched, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, backend, trace = scored
    whole = attend.recompute_rows(engine, trace, 700, 790)
    engine.prefixes.clear()
    monkeypatch.setattr(attend, "ROW_BYTES", 4 * 2 * 2 * 790 * 7)
    at = 700
    for start, block in attend.row_windows(engine, trace, 700, 790):
        assert start == at
        assert block.nbytes <= attend.ROW_BYTES
        n = block.shape[2]
        want = whole[:, :, start - 700 : start - 700 + n, : start + n]
        assert np.abs(block - want).max() < 1e-6
        at += n
    assert at == 790
    assert all(feed.scores == 0 for feed in backend.feeds)
    with pytest.raises(CapacityError) as caught:
        attend.recompute_rows(engine, trace, 700, 790)
    assert caught.value.fits == 7
    if engine.abilities.fork == "crop":
        assert max(len(feed.ids) for feed in backend.feeds) <= attend.CHUNK


def test_it_can_be_stopped(scored: tuple[Engine, Watched, Trace]) -> None:
    engine, backend, trace = scored
    for job in (
        lambda c: attend.attention_rows(engine, trace, 1000, c),
        lambda c: attend.attended_by(engine, trace, 3, "mean", "max", c),
    ):
        engine.prefixes.clear()
        backend.feeds.clear()
        asked = iter([False, True, True, True])
        with pytest.raises(Cancelled):
            job(Control(cancelled=asked.__next__))
        assert len(backend.feeds) == 1


def test_who_looks_at_a_token(scored: tuple[Engine, Watched, Trace]) -> None:
    engine, _, trace = scored
    values, source = attend.attended_by(engine, trace, 5, 1, 0)
    assert source == "recomputed"
    assert np.isnan(values[:6]).all()
    for u in (6, 700, len(trace) - 1):
        row, _ = attend.attention_rows(engine, trace, u)
        assert abs(row[1, 0, 5] - values[u]) < 1e-7
