"""States that decode together share memory and products; what comes out is what each has alone."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from tokenscope.backends.hf import slab as slabs
from tokenscope.backends.hf.batched import Batch
from tokenscope.backends.protocol import Extension, Feed, Full, RowsOf
from tokenscope.metrics.attention import reduce_rows, reduce_some
from tokenscope.runs.bench_texts import library_ids
from tokenscope.runs.model import Model

NEAR = 3e-5


def same(got: Extension, want: Extension) -> None:
    assert isinstance(got.scores, Full) and isinstance(want.scores, Full)
    a, b = np.asarray(got.scores.logits), np.asarray(want.scores.logits)
    assert np.abs(a - b).max() <= NEAR * np.abs(b).max()
    assert len(got.attention) == len(want.attention)
    for x, y in zip(got.attention, want.attention, strict=True):
        assert x.shape == y.shape
        assert np.abs(np.asarray(x) - np.asarray(y)).max(initial=0.0) <= NEAR


@pytest.fixture(params=[slabs.MOVED, 20], ids=["moved", "sealed"])
def backend(request: pytest.FixtureRequest, bundled: Model, monkeypatch: Any) -> Any:
    monkeypatch.setattr(slabs, "MOVED", request.param)
    monkeypatch.setattr(slabs, "SPARE", 4)  # slabs run full and are made anew within the test
    return bundled.backend


def test_any_company_gives_what_each_has_alone(
    bundled: Model, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joining, resting, forking, going back and settling in any order, beside a twin alone."""
    random = np.random.default_rng(3)
    text = library_ids(bundled, 900, 0)
    base = backend.start()
    backend.extend(Feed(base, text[:60], scores=0))
    pairs = []
    for n, length in enumerate((60, 60, 41, 60, 17, 8, 30, 59)):
        pairs.append((backend.fork(base, length), text[:length]))
        if n % 2:
            own = backend.start()
            backend.extend(Feed(own, text[100 : 110 + 9 * n], scores=0))
            pairs.append((own, text[100 : 110 + 9 * n]))
    at, carried = 200, []
    goes_on = Batch.goes_on
    monkeypatch.setattr(Batch, "goes_on", lambda a, b: carried.append(goes_on(a, b)) or carried[-1])
    chosen = random.permutation(len(pairs))
    for turn in range(28):
        if turn % 7 < 4:  # else the same ones again, each with one token
            count = int(random.integers(2, len(pairs) + 1))
            chosen = random.permutation(len(pairs))[:count]
        chosen = random.permutation(chosen)
        feeds, alone = [], []
        for which in chosen:
            state, seen = pairs[which]
            size = int(random.integers(1, 5)) if turn % 7 < 3 else 1
            ids, at = text[at : at + size], (at + size) % 800
            rows = int(random.integers(0, len(ids) + 1))
            twin = backend.start()
            backend.extend(Feed(twin, seen, scores=0))
            feeds.append(Feed(state, ids, rows, None))
            alone.append(backend.extend(Feed(twin, ids, rows, None)))
            pairs[which] = (state, [*seen, *ids])
        for feed, got, want in zip(feeds, backend.extend_many(feeds), alone, strict=True):
            same(got, want)
            if isinstance(got.attention, RowsOf):
                keys = got.attention.batch.keys()[got.attention.state]
                assert keys[keys >= 0].tolist() == list(range(len(feed.state.ids)))
        which = int(random.integers(len(pairs)))
        state, seen = pairs[which]
        match turn % 7:
            case 0:
                pairs.append((backend.fork(state, len(seen) - 3), seen[:-3]))
            case 1:
                backend.back(state, 2)
                pairs[which] = (state, seen[:-2])
            case 2:
                backend.settle(state)
            case 6:
                pairs.pop(which)
        for state, seen in pairs:
            assert list(state.ids) == seen
    assert sum(carried) >= 4


def test_rows_reduced_together_are_those_of_each(bundled: Model, backend: Any) -> None:
    text, layers = library_ids(bundled, 200, 1), bundled.info.attention_layers
    base = backend.start()
    backend.extend(Feed(base, text[:40], scores=0))
    states = [backend.fork(base, n) for n in (40, 25, 1)] + [backend.start()]
    sizes = (3, 1, 2, 4)
    outs = backend.extend_many(
        [Feed(s, text[50 : 50 + n], n, 1) for s, n in zip(states, sizes, strict=True)]
    )
    for state, n, out in zip(states, sizes, outs, strict=True):
        rows, end = out.attention, len(state.ids)
        assert isinstance(rows, RowsOf) and rows.rows == n
        first = end - n + 1  # the token after the first query
        want = reduce_rows(list(rows), layers, first, "top")
        got = reduce_some(rows, 0, n, layers, first)
        assert got.first == want.first and got.count == want.count == n
        for t in range(first, end + 1):
            assert np.abs(got.block(t) - want.block(t)).max() <= 1e-3
            assert got.unrecorded(layers[0], 0, t) == pytest.approx(
                want.unrecorded(layers[0], 0, t), abs=1e-3
            )
        part = reduce_some(rows, n - 1, n, layers, end)
        assert np.abs(part.block(end) - want.block(end)).max() <= 1e-3


def test_a_slab_goes_with_the_last_state_in_it(bundled: Model) -> None:
    backend: Any = bundled.backend
    text = library_ids(bundled, 60, 2)
    states = [backend.start() for _ in range(6)]
    backend.extend_many([Feed(s, text[n : n + 3], scores=0) for n, s in enumerate(states)])
    assert backend.compact._slab is not None
    for state in states[:4]:
        backend.settle(state)
    bytes_of = bundled.info.state_bytes_per_token
    assert states[0].nbytes < 80 * bytes_of
    del states[4:], state
    gc.collect()
    backend.settle(states[0])
    assert backend.compact._slab is None
