"""One suite over every backend: what the contract promises holds, whoever keeps it.

The backends: scripted, scripted with tops only, the bundled model (lean step), the
same as GGUF through llama.cpp, the same behind a real llama.cpp server, a Gemma2 with
windows and softcap (transformers' own step), a hybrid (Lfm2), a recurrent one (Mamba).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as hf

from tests.backends.gguf_file import write
from tests.backends.llama_server import serving
from tests.families import COMMON, FAMILIES, randomise, save_folder
from tokenscope.backends import protocol
from tokenscope.backends.open import open_backend
from tokenscope.backends.protocol import Extension, Feed, Full, Top
from tokenscope.backends.scripted import ScriptedBackend, ScriptedTop
from tokenscope.errors import AbilityError, CapacityError, InputError

TEXT = "def add(a, b):\n    return a + b  # größer\n"
NEAR = 2e-5


def _lfm2() -> Any:
    return hf.Lfm2ForCausalLM(hf.Lfm2Config(
        **COMMON, intermediate_size=48, num_key_value_heads=2, full_attn_idxs=[1],
    ))  # fmt: skip


def _mamba() -> Any:
    return hf.MambaForCausalLM(hf.MambaConfig(
        vocab_size=8192, hidden_size=32, num_hidden_layers=2, state_size=8, bos_token_id=0,
        eos_token_id=0, pad_token_id=0,
    ))  # fmt: skip


MADE = {"gemma2": FAMILIES["gemma2"], "lfm2": _lfm2, "mamba": _mamba}


@pytest.fixture(
    scope="module", params=["scripted", "scripted top", "bundled", "gguf", "server", *MADE]
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with ExitStack() as held:
        if request.param == "server":
            pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
            file = write(tmp_path_factory.mktemp("conformance") / "served.gguf")
            loaded = open_backend(held.enter_context(serving(file)) + "/v1")
        else:
            loaded = opened(request.param, tmp_path_factory)
        yield loaded
        loaded.close()


def opened(name: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if name == "scripted":
        return ScriptedBackend(context=512)
    if name == "scripted top":
        return ScriptedTop(context=512)
    if name == "bundled":
        return open_backend()
    folder = tmp_path_factory.mktemp("conformance") / name
    if name == "gguf":
        pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
        return open_backend(write(folder.with_suffix(".gguf")))
    return open_backend(save_folder(randomise(MADE[name]()), Path(folder)))


def ids_of(backend: Any, count: int) -> list[int]:
    ids = [int(i) for i in backend.encode(TEXT * 8).ids]
    return ids[:count]


def numbers(out: Extension) -> list[np.ndarray]:
    """Everything that an extension says, as arrays."""
    scores: list[Any] = []
    if isinstance(out.scores, Full):
        scores = [out.scores.logits]
    elif isinstance(out.scores, Top):
        scores = [out.scores.logprobs, out.scores.missing, out.scores.ids]
    return [np.asarray(a, dtype=np.float64) for a in (*scores, *out.attention)]


def same(got: Extension, want: Extension) -> None:
    a, b = numbers(got), numbers(want)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert np.abs(x - y).max(initial=0.0) <= NEAR * max(1.0, np.abs(y).max(initial=0.0))


def fresh(backend: Any, ids: list[int], rows: int = 0, scores: int | None = None) -> Extension:
    """The same from nothing: one feed, token by token where the last ones are wanted."""
    return backend.extend(Feed(backend.start(), ids, rows, scores))


def rows_of(backend: Any) -> int:
    return int(backend.abilities.attention)


def test_text_is_bytes(backend: Any) -> None:
    tokens = protocol.vocabulary(backend).encode(TEXT)
    assert tokens.data == TEXT.encode()
    for i in set(tokens.ids.tolist()):
        assert backend.label(int(i)) is not None or backend.piece(int(i))
    for bad in (-1, 10**7):
        with pytest.raises(InputError):
            backend.piece(bad)
    with pytest.raises(InputError):
        backend.encode("a\ud800b")


def test_one_feed_equals_many(backend: Any) -> None:
    ids = ids_of(backend, 20)
    whole = numbers(fresh(backend, ids))[0]
    for cut in ([1] * 20, [7, 1, 4, 8], [12, 8]):
        state, at, got = backend.start(), 0, []
        for n in cut:
            out = backend.extend(Feed(state, ids[at : at + n]))
            got.append(numbers(out)[0])
            at += n
            assert list(state.ids) == ids[:at]
        assert np.abs(np.concatenate(got) - whole).max() <= NEAR * np.abs(whole).max()


def test_only_what_is_wanted(backend: Any) -> None:
    ids = ids_of(backend, 12)
    whole = fresh(backend, ids)
    none = fresh(backend, ids, scores=0)
    assert none.scores is None
    some = fresh(backend, ids, scores=3)
    assert some.scores is not None and len(some.scores) == 3
    assert np.abs(numbers(some)[0] - numbers(whole)[0][-3:]).max() <= 1e-4
    if not backend.abilities.attention:
        assert fresh(backend, ids, rows=2).attention == []
        return
    rows = fresh(backend, ids, rows=5, scores=0).attention
    assert len(rows) == len(backend.info.attention_layers)
    for layer in rows:
        assert tuple(layer.shape) == (backend.info.heads, 5, 12)
        assert np.abs(np.asarray(layer).sum(-1) - 1.0).max() <= 1e-4
        for n in range(5):  # what comes later is never looked at
            assert not np.asarray(layer)[:, n, 12 - 5 + n + 1 :].any()


def test_together_equals_alone(backend: Any) -> None:
    ids = ids_of(backend, 90)
    sizes = [(1, 1), (5, 3), (17, 8), (40, 1), (33, 2), (9, 20)]  # what was read, what is fed
    rows = rows_of(backend)
    feeds, alone = [], []
    for n, (before, count) in enumerate(sizes):
        for out in (feeds, alone):
            state = backend.start()
            backend.extend(Feed(state, ids[n : n + before], scores=0))
            fed = ids[n + before : n + before + count]
            wanted = (None, 1, 0)[n % 3]
            out.append(Feed(state, fed, rows * min(count, n + 1), wanted))
    together = backend.extend_many(feeds)
    for feed, out in zip(alone, together, strict=True):
        same(out, backend.extend(feed))
    for a, b in zip(feeds, alone, strict=True):
        assert list(a.state.ids) == list(b.state.ids)


def test_forks_go_their_own_ways(backend: Any) -> None:
    ids = ids_of(backend, 30)
    kind = backend.abilities.fork
    state = backend.start()
    backend.extend(Feed(state, ids))
    assert list(backend.fork(state, 0).ids) == []
    for bad in (-1, 31):
        with pytest.raises(InputError):
            backend.fork(state, bad)
    if kind != "crop":
        with pytest.raises(AbilityError):
            backend.fork(state, 12)
    lengths = [30, 30, 12, 12, 29, 1] if kind == "crop" else [30, 30]
    others = [ids[3:9], ids[5:14], ids[:1], ids[7:20], ids[2:4], ids[9:10]]
    forks = [backend.fork(state, n) for n in lengths]
    deeper = []
    for fork, n, more in zip(forks, lengths, others, strict=False):
        same(backend.extend(Feed(fork, more, rows_of(backend), 1)),
             fresh(backend, ids[:n] + more, rows_of(backend), 1))  # fmt: skip
        deeper.append((backend.fork(fork, len(fork.ids)), ids[:n] + more))
    for fork, seen in deeper:  # a branch of a branch, after its siblings have grown
        same(backend.extend(Feed(fork, ids[4:6], rows_of(backend), 1)),
             fresh(backend, seen + ids[4:6], rows_of(backend), 1))  # fmt: skip
    same(backend.extend(Feed(state, ids[:2], scores=1)), fresh(backend, ids + ids[:2], scores=1))


def test_going_back(backend: Any) -> None:
    ids = ids_of(backend, 24)
    state = backend.start()
    backend.extend(Feed(state, ids[:20], scores=0))
    if backend.abilities.fork != "crop":
        with pytest.raises(AbilityError):
            backend.back(state, 1)
        return
    for bad in (-1, 21):
        with pytest.raises(InputError):
            backend.back(state, bad)
    fork = backend.fork(state, 20)
    for more, count in ((ids[:6], 4), (ids[3:9], 6), (ids[2:4], 0)):
        backend.extend(Feed(state, more, scores=0))
        backend.back(state, count)
    seen = ids[:20] + ids[:2] + ids[2:4]
    assert list(state.ids) == seen
    same(backend.extend(Feed(state, ids[5:6], rows_of(backend))),
         fresh(backend, seen + ids[5:6], rows_of(backend), 1))  # fmt: skip
    backend.back(state, 15)  # below where the fork looks
    backend.extend(Feed(state, ids[8:12], scores=0))
    same(backend.extend(Feed(fork, ids[5:6])), fresh(backend, ids[:20] + ids[5:6], scores=1))


def test_refusals_leave_everything_as_it_was(backend: Any) -> None:
    ids = ids_of(backend, 8)
    good, bad = backend.start(), backend.start()
    backend.extend(Feed(good, ids))
    backend.extend(Feed(bad, ids))
    for feed, error in (
        (Feed(bad, [10**7]), InputError),
        (Feed(bad, [-1]), InputError),
        (Feed(bad, []), InputError),
        (Feed(good, ids[:1]), InputError),  # the same state twice
    ):
        with pytest.raises(error):
            backend.extend_many([Feed(good, ids[:2]), feed])
    limit = 512 if isinstance(backend, ScriptedTop) else backend.info.context
    if limit is not None:  # a recurrent memory has no end
        with pytest.raises(CapacityError) as caught:
            backend.extend_many([Feed(good, ids[:2]), Feed(bad, [ids[0]] * limit)])
        assert caught.value.fits == limit - 8
    assert list(good.ids) == list(bad.ids) == ids
    same(backend.extend(Feed(good, ids[:2])), backend.extend(Feed(bad, ids[:2])))


def test_blocks_are_counted_once(backend: Any) -> None:
    state = backend.start()
    backend.extend(Feed(state, ids_of(backend, 16), scores=0))
    assert sum(state.blocks.values()) == state.nbytes
    if backend.abilities.fork == "crop" and backend.info.name not in ("scripted", "scripted top"):
        fork = backend.fork(state, 10)
        assert set(fork.blocks) == set(state.blocks)


def test_parts_that_are_not_declared_are_refused(backend: Any) -> None:
    abilities = backend.abilities
    for part, declared in (
        (protocol.vocabulary, abilities.vocabulary),
        (protocol.stepper, abilities.steps),
        (protocol.streamer, abilities.stream),
        (protocol.scorer, abilities.scoring),
        (protocol.internals, abilities.internals),
        (protocol.infill, abilities.infill),
        (protocol.chat, abilities.chat),
    ):
        if declared:
            assert part(backend) is backend
        else:
            with pytest.raises(AbilityError):
                part(backend)


def test_scores_are_of_the_kind_declared(backend: Any) -> None:
    scores = fresh(backend, ids_of(backend, 3)).scores
    assert isinstance(scores, Full if backend.abilities.scores == "full" else Top)
    if isinstance(scores, Top):
        p = np.exp(scores.logprobs).sum(axis=1)
        assert np.abs(p + scores.missing - 1).max() < 1e-6
        assert backend.info.vocab is None
    else:
        assert scores.logits.shape == (3, backend.info.vocab)


def test_a_server_streams_and_scores_what_it_would_be_fed() -> None:
    top = ScriptedTop()
    told = list(protocol.streamer(top).stream(protocol.Asked("abc", 6, {}), lambda: False))
    state = top.start()
    out = top.extend(Feed(state, list(b"abc"), scores=1))
    for one in told:
        assert isinstance(out.scores, Top)
        assert one.id == out.scores.ids[0, 0]
        assert one.piece == top.piece(one.id)
        out = top.extend(Feed(state, [one.id], scores=1))
    assert len(told) == 6
    assert list(top.stream(protocol.Asked("abc", 6, {}), lambda: True)) == []
    (scores,) = protocol.scorer(top).score(list(b"hello"), 1, 3, lambda: False)
    assert scores.ids.shape == (4, 3)
    assert np.isfinite(scores.chosen).all()


def test_a_long_feed_makes_its_logits_in_blocks(backend: Any) -> None:
    ids = ids_of(backend, 100)
    out = fresh(backend, ids)
    if not isinstance(out.scores, Full):
        return
    made = out.scores.block(0, len(ids))
    assert made.shape == (100, backend.info.vocab)
    near = 1e-5 * np.abs(np.asarray(made)).max()
    assert np.abs(np.asarray(out.scores.cut(60, 90).block(5, 9) - made[65:69])).max() <= near
    assert np.abs(np.asarray(out.scores.logits[-1] - made[99])).max() <= near
    if backend.info.name == "bundled" and backend.abilities.internals:
        assert out.scores.deferred and not out.scores.cut(0, 1).block(0, 1).requires_grad
