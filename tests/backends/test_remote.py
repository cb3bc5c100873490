"""A model behind a real llama.cpp server, against the same file read here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.backends.gguf_file import write
from tests.backends.llama_server import serving
from tokenscope.backends.remote.address import parse, permit
from tokenscope.backends.remote.keys import key_for
from tokenscope.backends.remote.words import Seen
from tokenscope.errors import AbilityError, CapacityError, InputError, RemoteError
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.generate import score as begin_score
from tokenscope.runs.model import Model, load
from tokenscope.trace.constraints import Regex
from tokenscope.trace.edits import Ban, Bias
from tokenscope.trace.record import Trace

pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
PROMPT = "def is_even(n):\n    return"
EXACT = ("logprob", "surprisal", "probability", "rank", "margin", "p_ratio", "perplexity")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("served") / "bundled.gguf")


@pytest.fixture(scope="module")
def remote(file: Path) -> Iterator[Model]:
    with serving(file) as address:
        model = load(address + "/v1")
        yield model
        model.close()


@pytest.fixture(scope="module")
def local(file: Path) -> Iterator[Model]:
    model = load(file)
    yield model
    model.close()


def same(a: Trace, b: Trace, names: tuple[str, ...] = EXACT) -> None:
    assert a.ids.tolist() == b.ids.tolist()
    assert a.tokens.pieces() == b.tokens.pieces()
    n = a.n_prompt if a.n_prompt < len(a) else 0
    for name in names:
        x, y = a.column(name)[n:], b.column(name)[n:]
        assert np.isnan(x).tolist() == np.isnan(y).tolist(), name
        if name == "rank" and a.columns[name].quality == "bound":
            assert (x[~np.isnan(x)] <= y[~np.isnan(y)]).all()
            x, y = np.minimum(x, 20), np.minimum(y, 20)
        assert np.nanmax(np.abs(x - y) / np.maximum(1, np.abs(y)), initial=0.0) < 1e-3, name


def test_what_it_decodes_is_what_the_file_decodes(remote: Model, local: Model) -> None:
    a, b = remote.generate(PROMPT, max_new_tokens=20), local.generate(PROMPT, max_new_tokens=20)
    same(a, b)
    assert {n: c.quality for n, c in a.columns.items() if c.quality != "exact"} == {
        "entropy": "bound"
    }
    n = a.n_prompt
    assert np.isnan(a.column("logprob")[:n]).all(), "a prompt is not measured unasked"
    assert (a.column("entropy")[n:] <= b.column("entropy")[n:] + 1e-4).all()
    assert a.alternatives is not None and b.alternatives is not None
    assert np.abs(a.alternatives.logprobs[n:] - b.alternatives.logprobs[n:]).max() < 1e-3
    assert (a.alternatives.rest[n:] > 0).all()
    assert a.attention is None
    assert a.origin.backend == "llama.cpp server"


@pytest.mark.parametrize("prompt", ["ö = 'öööööö'\nö = '", "x = '✓✓✓✓✓✓✓✓✓✓✓✓", "gr"])
def test_tokens_inside_characters_are_not_lost(remote: Model, local: Model, prompt: str) -> None:
    same(remote.generate(prompt, max_new_tokens=7), local.generate(prompt, max_new_tokens=7))


def test_scoring_is_exact_and_tells_its_cost_first(remote: Model, local: Model) -> None:
    text = "for i in range(3):\n    print(i, 'größe ✓')\n"
    run = begin_score(remote, text)
    assert f"{run.total - 1} requests" in run.cost
    same(run.result(), local.score(text))
    assert run.trace.columns["surprisal"].quality == "exact"
    assert begin_score(local, text).cost == ""


def test_branches_go_on_from_the_parent(remote: Model, local: Model) -> None:
    a, b = remote.generate(PROMPT, max_new_tokens=12), local.generate(PROMPT, max_new_tokens=12)
    t = a.n_prompt + 3
    other = int(b.alternatives.ids[t, 1])  # type: ignore[union-attr]
    same(remote.fork(a, t, other, max_new_tokens=5), local.fork(b, t, other, max_new_tokens=5))
    same(remote.fork(a, t, " größe(", max_new_tokens=3), local.fork(b, t, " größe(",
                                                                    max_new_tokens=3))  # fmt: skip
    same(remote.fork(a, 1, "x", max_new_tokens=3), local.fork(b, 1, "x", max_new_tokens=3))


def test_bans_and_biases_are_done_by_the_server(remote: Model, local: Model) -> None:
    plain = local.generate(PROMPT, max_new_tokens=10)
    first = int(plain.ids[plain.n_prompt])
    edits = [Ban((first,)), Bias((202, 11), 4.0), Bias((11,), -1.0)]
    a = remote.generate(PROMPT, max_new_tokens=10, edits=edits)
    b = local.generate(PROMPT, max_new_tokens=10, edits=edits)
    same(a, b)
    assert first not in a.ids[a.n_prompt :] and a.ids.tolist() != plain.ids.tolist()
    assert a.origin.segments[-1].edits == tuple(edits)


def test_infill_and_chat_by_the_servers_own_tokens(remote: Model, local: Model) -> None:
    same(remote.infill("def f(", "return x", max_new_tokens=4),
         local.infill("def f(", "return x", max_new_tokens=4))  # fmt: skip
    chat = remote.chat([{"role": "user", "content": "hello"}], max_new_tokens=2)
    assert "user\nhello" in chat.tokens.slice(0, chat.n_prompt).text
    with pytest.raises(InputError, match="special token"):
        remote.chat([{"role": "user", "content": "a<|endoftext|>b"}])


def test_the_servers_draws_repeat_by_seed(remote: Model) -> None:
    ask = {"max_new_tokens": 12, "temperature": 1.5, "top_k": 50}
    first = remote.generate(PROMPT, seed=1, **ask)  # type: ignore[arg-type]
    assert first.ids.tolist() == remote.generate(PROMPT, seed=1, **ask).ids.tolist()  # type: ignore
    assert first.ids.tolist() != remote.generate(PROMPT, seed=2, **ask).ids.tolist()  # type: ignore
    outside = first.column("rank")[first.n_prompt :] > 20
    assert np.isfinite(first.column("logprob")[first.n_prompt :]).all()
    assert outside.any() or (first.column("rank")[first.n_prompt :] >= 1).all()


def test_stop_strings_and_cancel(remote: Model) -> None:
    whole = remote.generate(PROMPT, max_new_tokens=12)
    word = whole.text[len(PROMPT) + 6 : len(PROMPT) + 9]
    made = remote.generate(PROMPT, max_new_tokens=40, stop=[word])
    assert made.finish == "stop" and word in made.text[len(PROMPT) :] and len(made) <= len(whole)
    run = generate(remote, prompt=PROMPT, settings=Settings(max_new_tokens=400))
    for step in run:
        if step.end > len("def is") + 8:
            run.cancel()
    assert run.finish == "cancelled" and len(run.trace) < 60
    assert remote.generate(PROMPT, max_new_tokens=3).finish == "length"


def test_refusals(remote: Model) -> None:
    for edit in (Ban((5,), at=3), Bias((5,), 1.0, until=9), Regex("a+")):
        with pytest.raises(AbilityError, match="bans and biases"):
            remote.generate(PROMPT, edits=[edit])
    with pytest.raises(InputError):
        remote.generate(PROMPT, edits=[Ban((10**6,))], max_new_tokens=2)
    with pytest.raises(CapacityError):
        remote.generate("x = 1\n" * 400)
    with pytest.raises(InputError, match="surrogate"):
        remote.generate("a\ud800")


def test_addresses() -> None:
    found = parse("http://127.0.0.1:8080/v1#coder")
    assert (found.root, found.model, found.loopback) == ("http://127.0.0.1:8080", "coder", True)
    assert parse("HTTPS://Box.example/llm/v1/").root == "https://box.example/llm"
    for bad in ("http://", "ftp://x", "http://u:p@x/v1", "http://x:99999/", "http://x/?a=1"):
        with pytest.raises(InputError):
            parse(bad)
    permit(parse("http://[::1]:1/v1"), [])
    permit(parse("https://box.example/v1"), ["https://box.example:443"])
    for other in ("http://box.example/v1", "https://box.example:8443/v1", "http://10.0.0.1/v1"):
        with pytest.raises(InputError, match="--allow-server"):
            permit(parse(other), ["https://box.example"])
    with pytest.raises(InputError, match="allow-server"):
        load("http://192.0.2.1:8080/v1")


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = parse("http://127.0.0.1:1/v1"), parse("https://box.example/v1")
    keys = tmp_path / "keys"
    keys.write_text("# ours\nhttps://box.example/v1 sk-box\n")
    monkeypatch.setenv("TOKENSCOPE_SERVER_KEYS", str(keys))
    with pytest.raises(InputError, match="chmod 600"):
        key_for(there)
    keys.chmod(0o600)
    assert key_for(there) == "sk-box" and key_for(here) is None
    monkeypatch.setenv("TOKENSCOPE_SERVER_KEY", "sk-all")
    assert key_for(there) == "sk-box" and key_for(here) == "sk-all"
    monkeypatch.setenv("TOKENSCOPE_SERVER_KEY", "sk\nx: y")
    with pytest.raises(InputError):
        key_for(here)


def test_nobody_there_is_one_clear_error() -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        load("http://127.0.0.1:1/v1")


def test_own_numbers_are_the_same_in_every_run() -> None:
    a, b = Seen(), Seen()
    assert a.number(b"x") == a.number(b"x")
    b.number(b"y")
    assert a.number(b"x") == b.number(b"x") != b.number(b"y")
    assert a.piece(a.number(b"x")) == b"x"
    with pytest.raises(InputError):
        a.piece(3)
