"""GGUF files through llama.cpp: against transformers on the same weights, forks, a dying worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.backends.gguf_file import write
from tests.real_model import gguf_file, smollm2
from tokenscope import edits
from tokenscope.backends.gguf.backend import GgufBackend
from tokenscope.backends.gguf.load import load
from tokenscope.backends.open import open_backend
from tokenscope.backends.protocol import Feed, Hidden
from tokenscope.errors import AbilityError, CapacityError, InputError, ModelError
from tokenscope.runs.model import Model

pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
TEXT = "def is_even(n):\n    return n % 2 == 0\n\nfor i in range(3):\n    print(is_even(i))\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "bundled.gguf")


@pytest.fixture(scope="module")
def backend(file: Path) -> Iterator[GgufBackend]:
    loaded = load(file, cells=4096)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def ids(bundled: Model) -> list[int]:
    return [int(i) for i in bundled.score(TEXT).ids]


def logprobs(scores: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return torch.log_softmax(torch.tensor(scores, dtype=torch.float64), -1).numpy()


def test_numbers_and_rows_are_those_of_transformers(
    backend: GgufBackend, bundled: Model, ids: list[int]
) -> None:
    out = backend.extend(Feed(backend.start(), ids, rows=len(ids)))
    module = bundled.backend.model  # type: ignore[attr-defined]
    before = module.config._attn_implementation
    module.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            want = module(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    finally:
        module.set_attn_implementation(before)
    reference = logprobs(want.logits[0].numpy())
    got = logprobs(out.scores.logits)  # type: ignore[union-attr]
    assert np.abs(got - reference).max() < 1e-3
    assert (got.argmax(-1) == reference.argmax(-1)).all()
    assert len(out.attention) == len(want.attentions)
    for rows, eager in zip(out.attention, want.attentions, strict=True):
        assert np.abs(rows - eager[0].numpy()).max() < 1e-4


def test_forks_batches_and_parts_agree_with_one_feed(backend: GgufBackend, ids: list[int]) -> None:
    whole = backend.extend(Feed(backend.start(), ids, rows=len(ids)))
    assert whole.scores is not None
    state = backend.start()
    backend.extend(Feed(state, ids[:20], scores=0))
    early, late = backend.fork(state, 12), backend.fork(state, 20)
    outs = backend.extend_many([Feed(early, ids[12:15], rows=3), Feed(late, ids[20:21], rows=1)])
    for out, start, end in zip(outs, (12, 20), (15, 21), strict=True):
        assert np.abs(out.scores.logits - whole.scores.logits[start:end]).max() < 1e-4  # type: ignore
        for rows, full in zip(out.attention, whole.attention, strict=True):
            assert np.abs(rows - full[:, start:end, :end]).max() < 1e-5
    assert early.ids == ids[:15]
    assert state.ids == ids[:20]


def test_a_state_that_lost_its_cells_is_read_again(file: Path, ids: list[int]) -> None:
    small = load(file, cells=256)  # a few sequences fill it
    try:
        states = [small.start() for _ in range(6)]
        for n, state in enumerate(states):
            small.extend(Feed(state, [n + 10, *ids[1:]], scores=0))
        first = small.extend(Feed(states[0], [50], rows=1))
        fresh = small.start()
        again = small.extend(Feed(fresh, [10, *ids[1:], 50], rows=1, scores=1))
        assert np.abs(first.scores.logits[-1] - again.scores.logits[-1]).max() < 1e-4  # type: ignore
        for a, b in zip(first.attention, again.attention, strict=True):
            assert np.abs(a - b).max() < 1e-5
    finally:
        small.close()


def test_bytes(backend: GgufBackend) -> None:
    text = "naïve = '\N{ROCKET}'\t\n\r\n  x\u200b"
    tokens = backend.encode(text)
    assert b"".join(tokens.pieces()) == text.encode()
    assert backend.label(0) == "<|endoftext|>"
    assert backend.piece(0) == b""
    tokens = backend.encode("<|endoftext|>")
    assert 0 not in tokens.ids, "text from outside never becomes a special token"


def test_bad_requests_are_refused_and_cost_nothing(backend: GgufBackend, ids: list[int]) -> None:
    state = backend.start()
    with pytest.raises(InputError):
        backend.extend(Feed(state, [1 << 30]))
    with pytest.raises(InputError):
        backend.extend(Feed(state, []))
    with pytest.raises(InputError):
        backend.extend_many([Feed(state, [1]), Feed(state, [2])])
    with pytest.raises(CapacityError):
        backend.extend(Feed(state, [1] * 5000))
    with pytest.raises(AbilityError):
        backend.extend(Feed(state, [1], changes=("something",)))
    assert state.ids == []
    backend.extend(Feed(state, ids[:3]))


def test_a_worker_that_dies_is_one_clear_error(file: Path, ids: list[int]) -> None:
    loaded = load(file, cells=512)
    state = loaded.start()
    loaded.extend(Feed(state, ids[:4]))
    os.kill(loaded.worker.pid, signal.SIGABRT)
    with pytest.raises(ModelError, match="ended in the middle"):
        loaded.extend(Feed(state, ids[4:6]))
    with pytest.raises(ModelError, match="closed"):
        loaded.extend(Feed(state, ids[4:6]))
    loaded.close()


def test_a_grammar_holds_on_a_gguf_file(backend: GgufBackend) -> None:
    """Masks are functions of bytes, so any backend with whole distributions takes them."""
    held = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    schema = json.dumps({**held, "additionalProperties": False})
    model = Model(backend)
    trace = model.generate("x = ", max_new_tokens=48, edits=[edits.JsonSchema(schema)])
    assert isinstance(json.loads(trace.generated)["n"], bool)
    plain = model.generate("x = ", max_new_tokens=24)
    assert not plain.generated.lstrip().startswith("{"), "without it the model says something else"


def test_tokens_are_left_out_of_a_gguf_file(
    backend: GgufBackend, bundled: Model, ids: list[int]
) -> None:
    """Erasure against transformers on the same weights, each shorter text from scratch."""
    model = Model(backend)
    trace = model.score(TEXT)
    at = 17
    why = model.explain(trace, at=at, also=["regions", "lens"])
    module, a = bundled.backend.model, int(trace.ids[at])  # type: ignore[attr-defined]

    def f(text: list[int]) -> float:
        with torch.no_grad():
            row = module(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
        return float(row.log_softmax(-1)[a])

    start = int(trace.tokens.special[0])
    whole = [int(i) for i in trace.ids[:at]]
    want = [f(whole) - f(whole[:i] + whole[i + 1 :]) for i in range(start, at)]
    assert (why.method, len(why.values)) == ("erasure", at)
    assert np.abs(why.values[start:] - want).max() < 2e-3 and why.values[:start].sum() == 0
    assert why.value == pytest.approx(float(trace.column("logprob")[at]), abs=1e-3)
    assert not why.tables["regions"].refused and why.tables["lens"].refused
    with pytest.raises(AbilityError, match="needs the inside"):
        model.explain(trace, at=at, method="integrated_gradients")


def test_keys_are_hidden_from_the_last_token_of_a_gguf_file(
    backend: GgufBackend, bundled: Model, ids: list[int]
) -> None:
    """Knockout by llama.cpp's mask against transformers with a mask of its own, same weights."""
    model = Model(backend)
    trace = model.score(TEXT)
    at = 17
    why = model.explain(trace, at=at, method="attention_knockout")
    module, a = bundled.backend.model, int(trace.ids[at])  # type: ignore[attr-defined]
    whole = torch.tensor([[int(i) for i in trace.ids[:at]]])

    def f(hidden: int | None) -> float:
        mask = torch.full((1, 1, at, at), -torch.inf).triu(1)
        if hidden is not None:
            mask[0, 0, -1, hidden] = -torch.inf
        with torch.no_grad():
            row = module(input_ids=whole, attention_mask=mask, use_cache=False).logits[0, -1]
        return float(row.log_softmax(-1)[a])

    want = np.array([f(None) - f(key) for key in range(at)])
    assert why.method == "attention_knockout" and len(why.values) == at
    assert np.abs(want).max() > 0.1
    assert np.abs(why.values - want).max() < 2e-3
    state = backend.start()
    backend.extend(Feed(state, ids[:4], scores=0))
    for changes, fed in [((Hidden(9),), ids[4:5]), ((Hidden(1),), ids[4:6])]:
        with pytest.raises(InputError, match="reads the keys"):
            backend.extend(Feed(state, fed, changes=changes))
    with pytest.raises(AbilityError, match="its own edits"):
        bundled.backend.extend(Feed(bundled.backend.start(), ids[:1], changes=(Hidden(0),)))  # type: ignore[attr-defined]
    plain = backend.extend(Feed(backend.fork(state, 4), ids[4:5]))
    masked = backend.extend(Feed(backend.fork(state, 4), ids[4:5], changes=(Hidden(4),)))
    again = backend.extend(Feed(backend.fork(state, 4), ids[4:5]))
    assert np.array_equal(plain.scores.logits, again.scores.logits)  # type: ignore[union-attr]
    assert np.abs(plain.scores.logits - masked.scores.logits).max() > 0.01  # type: ignore[union-attr]


def test_what_is_no_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_backend(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelError, match="no GGUF file"):
        open_backend(tmp_path / "text.gguf")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + b"\3\0\0\0" + b"\xff" * 40)
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        open_backend(tmp_path / "cut.gguf")


def test_the_real_file_decodes_like_its_safetensors_twin(real: Model) -> None:
    folder, _ = smollm2()
    assert folder is not None
    loaded = load(gguf_file(), cells=1024)
    try:
        text = "def is_prime(n):\n    for i in range(2, n):\n        if n % i == 0:\n"
        tokens = loaded.encode(text)
        trace = real.score(text)
        assert tokens.ids.tolist() == trace.ids.tolist()
        out = loaded.extend(Feed(loaded.start(), tokens.ids.tolist()))
        got = logprobs(out.scores.logits)  # type: ignore[union-attr]
        mine = got[np.arange(len(tokens) - 1), tokens.ids[1:]]
        # ggml quantises activations too: close, not equal
        assert np.abs(mine - trace.column("logprob")[1:]).mean() < 0.15
    finally:
        loaded.close()
