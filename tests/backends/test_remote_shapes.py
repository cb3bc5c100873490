"""Servers that tell texts and no ids, in two shapes and Ollama's, over a real server's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.backends.gguf_file import write
from tests.backends.llama_server import serving
from tests.backends.shaped_server import ShapedServer
from tests.backends.test_remote import EXACT, PROMPT
from tokenscope.backends.remote import shapes
from tokenscope.errors import AbilityError, InputError, RemoteError
from tokenscope.runs.model import Model, load
from tokenscope.trace.record import Trace

pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
CODE = "for i in range(3):\n    print(i)\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shaped") / "bundled.gguf")


@pytest.fixture(scope="module")
def local(file: Path) -> Iterator[Model]:
    model = load(file)
    yield model
    model.close()


@pytest.fixture(scope="module")
def behind(file: Path) -> Iterator[str]:
    with serving(file) as address:
        yield address


@pytest.fixture
def shaped(behind: str) -> Iterator[Callable[..., Model]]:
    made: list[ShapedServer] = []

    def start(kind: str, model: str = "") -> Model:
        made.append(ShapedServer(behind, kind))
        return load(made[-1].address + (f"#{model}" if model else ""))

    yield start
    for server in made:
        server.close()


def compared(a: Trace, b: Trace, k: int) -> None:
    """Generated parts: the same bytes and numbers; ranks as far as they are known."""
    assert a.tokens.pieces()[a.n_prompt :] == b.tokens.pieces()[b.n_prompt :]
    for name in EXACT:
        if a.columns[name].quality == "bound" and name != "rank":
            continue
        x, y = a.column(name)[a.n_prompt :], b.column(name)[b.n_prompt :]
        if name == "rank":
            x, y = np.minimum(x, k + 1), np.minimum(y, k + 1)
        assert np.abs(x - y).max() < 2e-3 * max(1.0, np.abs(y).max()), name
    assert a.alternatives is not None and b.alternatives is not None
    k = min(k, a.alternatives.k)
    mine, true = a.alternatives.logprobs[a.n_prompt :, :k], b.alternatives.logprobs[b.n_prompt :]
    assert np.abs(mine - true[:, :k]).max() < 2e-3
    for t in range(3):
        assert [c.bytes for c in a.alternatives.row(a.n_prompt + t)][:k] == [
            c.bytes for c in b.alternatives.row(b.n_prompt + t)
        ][:k]


@pytest.mark.parametrize(("kind", "model", "k"), [
    ("vllm", "", 10), ("chat-like", "coder", 5), ("ollama", "coder:1b", 10),
])  # fmt: skip
def test_each_shape_gives_the_same_trace(
    shaped: Callable[..., Model], local: Model, kind: str, model: str, k: int
) -> None:
    remote = shaped(kind, model)
    a, b = remote.generate(PROMPT, max_new_tokens=10), local.generate(PROMPT, max_new_tokens=10)
    compared(a, b, k)
    assert a.columns["entropy"].quality == "bound"
    assert (a.column("entropy")[a.n_prompt :] <= b.column("entropy")[b.n_prompt :] + 1e-3).all()
    t = 3
    other = a.alternatives.row(a.n_prompt + t)[1]  # type: ignore[union-attr]
    mine = remote.fork(a, a.n_prompt + t, other.id, max_new_tokens=4)
    true = local.fork(b, b.n_prompt + t, other.bytes.decode(), max_new_tokens=4)
    assert mine.generated == true.generated
    at = mine.n_prompt + t
    assert mine.column("logprob")[at] == pytest.approx(other.logprob, abs=1e-4)
    assert mine.column("rank")[at] == 2


def test_a_branch_from_a_file_of_an_earlier_time(
    shaped: Callable[..., Model], tmp_path: Path
) -> None:
    made = shaped("ollama", "coder:1b").generate(PROMPT, max_new_tokens=6)
    kept = Trace.from_bytes(made.to_bytes())
    other = kept.alternatives.row(kept.n_prompt + 2)[1]  # type: ignore[union-attr]
    fork = shaped("ollama", "coder:1b").fork(kept, kept.n_prompt + 2, other.id, max_new_tokens=3)
    assert fork.tokens.pieces()[kept.n_prompt + 2] == other.bytes


def test_a_server_that_echoes_cuts_and_scores_prompts(
    shaped: Callable[..., Model], local: Model
) -> None:
    remote = shaped("vllm")
    a, b = remote.score(CODE), local.score(CODE)
    assert a.tokens.pieces() == b.tokens.pieces() and a.finish == "scored"
    for name in ("logprob", "surprisal"):
        assert np.nanmax(np.abs(a.column(name) - b.column(name))) < 2e-3
        assert a.columns[name].quality == "exact"
    # tokens that are no whole characters fall together in this shape, and are not taken for a rank
    margin, true = a.column("margin")[1:], b.column("margin")[1:]
    assert (margin <= true + 2e-3).all() and (np.abs(margin - true) < 2e-3).mean() > 0.6
    assert (a.column("rank")[1:] <= b.column("rank")[1:]).all()
    made = remote.generate(CODE, max_new_tokens=3)
    held = made.column("logprob")[1 : made.n_prompt]
    assert np.abs(held - b.column("logprob")[1:]).max() < 2e-3, "the prompt is measured, too"


def test_what_is_missing_is_said(shaped: Callable[..., Model]) -> None:
    with pytest.raises(AbilityError, match="no log-probabilities"):
        shaped("null")
    with pytest.raises(InputError, match="coder:1b, other:7b"):
        shaped("ollama")
    remote = shaped("chat-like")
    assert any("cannot score" in n and "5 candidates" in n for n in remote.info.notes)
    with pytest.raises(AbilityError, match="score"):
        remote.score(CODE)
    with pytest.raises(AbilityError, match="template"):
        remote.chat([{"role": "user", "content": "a"}])


def test_shapes_are_checked() -> None:
    held = shapes.legacy({
        "tokens": ["token_id:7", "bytes:\\xe2\\x82", "a"], "token_logprobs": [None, -1, -1e31],
        "top_logprobs": [None, {"b": -0.5, "a": -1}, None],
    })  # fmt: skip
    assert held[0].came.id == 7 and held[1].came.bytes == b"\xe2\x82"
    assert held[2].came.logprob == -np.inf and len(held[1].top) == 2
    for bad in (
        3, {"tokens": ["a"], "token_logprobs": []}, {"tokens": [1], "token_logprobs": [0]},
        {"tokens": ["a"], "token_logprobs": ["x"]}, {"tokens": ["a"], "token_logprobs": [True]},
        {"tokens": ["bytes:\\xzz"], "token_logprobs": [0]},
        {"tokens": ["a"], "token_logprobs": [0], "top_logprobs": [3]},
    ):  # fmt: skip
        with pytest.raises(RemoteError):
            shapes.legacy(bad)
    rows = [shapes.Entry(shapes.Candidate(-1, "b", None, -2.0), tuple(
        shapes.Candidate(n, t, None, p) for n, (t, p) in enumerate(
            [("a", -0.5), ("b", -2.0), ("\ufffd", -3.0), ("c", -3.5)])))]  # fmt: skip
    top = shapes.top_of(rows, lambda c: c.id, 4)
    assert top.ids[0].tolist() == [0, -1, -1, -1], "b may stand behind something hidden"
    assert top.missing[0] == pytest.approx(1 - np.exp(-0.5))
    for bad in ([3], "x", [{"token": 1}], [{"id": "x"}], [{"bytes": [300]}], [{"logprob": "x"}]):
        with pytest.raises(RemoteError):
            shapes.entries(bad)
