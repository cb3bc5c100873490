"""The one type: what it promises, and that files give back what they were given."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenscope as ts
from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, NotFound, UnknownName
from tokenscope.runs.generate import Settings, fork, generate
from tokenscope.trace import Tokens, Trace, Tree, differs_at, joint_logprob, trace_of

PIECES = st.lists(st.binary(max_size=6), max_size=40)


@pytest.fixture(scope="module")
def trace() -> Trace:
    host = Engine(ScriptedBackend())
    settings = Settings(max_new_tokens=12, temperature=1.0)
    return generate(host, prompt="x = [1, 2]", settings=settings).result()


@settings(max_examples=300, deadline=None)
@given(pieces=PIECES, cut=st.integers(0, 40))
def test_bytes_partition(pieces: list[bytes], cut: int) -> None:
    tokens = Tokens.of(list(range(len(pieces))), pieces)
    assert tokens.pieces() == pieces
    assert tokens.data == b"".join(pieces)
    cut = min(cut, len(pieces))
    again = tokens.slice(0, cut).joined(tokens.slice(cut, len(pieces)))
    assert again.pieces() == pieces
    assert again.ids.tolist() == tokens.ids.tolist()
    for n in range(len(tokens.data)):
        token = tokens[tokens.at_byte(n)]
        assert token.start <= n < token.end


@pytest.mark.parametrize("form", ["top", "full", "none"])
def test_save_and_read(form: str, tmp_path: Path) -> None:
    host = Engine(ScriptedBackend())
    made = generate(
        host, prompt="caf\u00e9 = 1", settings=Settings(max_new_tokens=9, attention=form)  # type: ignore[arg-type]
    ).result()  # fmt: skip
    made = fork(host, made, 12, 65, Settings(max_new_tokens=4, attention=form)).result()  # type: ignore[arg-type]
    back = ts.read(made.save(tmp_path / "t.trace"))
    assert back.text == made.text
    assert back.ids.tolist() == made.ids.tolist()
    assert back.origin == made.origin
    assert (back.n_prompt, back.finish) == (made.n_prompt, made.finish)
    for name in made.columns:
        assert np.array_equal(back.column(name), made.column(name), equal_nan=True)
    assert back.alternatives is not None
    assert made.alternatives is not None
    assert back.alternatives.row(5) == made.alternatives.row(5)
    if form == "none":
        assert back.attention is None
    else:
        assert back.attention is not None
        assert made.attention is not None
        assert np.array_equal(back.attention.block(12), made.attention.block(12))


def test_read_names_what_is_wrong(tmp_path: Path) -> None:
    nothing = tmp_path / "no.trace"
    with pytest.raises(InputError, match=r"no\.trace"):
        ts.read(nothing)
    nothing.write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match=r"no\.trace"):
        ts.read(nothing)
    with zipfile.ZipFile(nothing, "w") as archive:
        archive.writestr("trace.json", json.dumps({"format": 99}))
    with pytest.raises(InputError, match="99"):
        ts.read(nothing)


def test_arrays_cannot_be_changed(trace: Trace) -> None:
    with pytest.raises(ValueError, match="read-only"):
        trace.column("entropy")[0] = 1.0
    more = trace.with_column("mine", np.zeros(len(trace), dtype=np.float32))
    assert "mine" in more.columns
    assert "mine" not in trace.columns


def test_unknown_column_lists_the_known_ones(trace: Trace) -> None:
    with pytest.raises(UnknownName, match="entropy"):
        trace.column("entropie")


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="column entropy"):
        trace_of([1, 2], [b"a", b"b"], 0, entropy=[0.0])
    with pytest.raises(InputError, match="offsets"):
        Tokens(np.array([1]), b"abc", np.array([0, 2]))


def test_json_has_no_nan_and_all_tokens(trace: Trace) -> None:
    document = json.loads(trace.to_json(), parse_constant=lambda c: pytest.fail(c))
    assert len(document["tokens"]) == len(trace)
    assert document["columns"]["entropy"]["values"][0] is None
    frame = trace.to_pandas()
    assert len(frame) == len(trace)
    assert frame["generated"].sum() == len(trace) - trace.n_prompt


def test_rest_is_the_mass_of_all_tokens_that_are_no_alternatives(trace: Trace) -> None:
    assert trace.alternatives is not None
    assert np.isnan(trace.alternatives.rest[0])
    for t in range(1, len(trace)):
        z = hashed(trace.ids[:t].tolist()).astype(np.float64)  # what the script said, once more
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        others = np.setdiff1d(np.arange(len(p)), trace.alternatives.ids[t])
        assert trace.alternatives.rest[t] == pytest.approx(p[others].sum(), abs=2e-6)


def test_tree() -> None:
    host = Engine(ScriptedBackend())
    base = generate(host, prompt="abc", settings=Settings(max_new_tokens=6)).result()
    branch = fork(host, base, 5, 65, Settings(max_new_tokens=3)).result()
    twig = fork(host, branch, 7, 66, Settings(max_new_tokens=2)).result()
    tree = Tree().add("base", base).add("b", branch, "base").add("t", twig, "b")
    assert tree["b"].at == differs_at(base, branch) == 5
    assert [b.name for b in tree.children("base")] == ["b"]
    assert tree.below("base") == ["b", "t"]
    assert list(tree.remove("b").branches) == ["base"]
    assert joint_logprob(branch, 5) == pytest.approx(float(branch.column("logprob")[5:].sum()))
    with pytest.raises(NotFound):
        tree.add("x", twig, "nobody")


def test_summary(trace: Trace) -> None:
    """Every figure from what the script said, not from the trace's own columns."""
    nats, entropies = [], []
    for t in range(trace.n_prompt, len(trace)):
        z = hashed(trace.ids[:t].tolist()).astype(np.float64)
        logp = z - z.max() - np.log(np.exp(z - z.max()).sum())
        nats.append(-logp[trace.ids[t]])
        entropies.append(-(np.exp(logp) * logp).sum())
    assert 256 not in trace.ids.tolist(), "no end token here: every token is one byte"
    times = trace.column("time_ms")[trace.n_prompt :].astype(np.float64)
    assert trace.summary() == pytest.approx(
        {
            "tokens": 22, "prompt_tokens": 10, "generated_tokens": 12,
            "mean_surprisal": np.mean(nats), "perplexity": np.exp(np.mean(nats)),
            "bits_per_byte": np.sum(nats) / np.log(2) / 12, "joint_logprob": -np.sum(nats),
            "mean_entropy": np.mean(entropies), "tokens_per_s": 1000 / np.median(times),
        }, rel=1e-5,
    )  # fmt: skip


def test_the_speed_of_what_a_parent_measured(bundled: ts.Model) -> None:
    """An alternative that the parent offered takes no time; what ends with it has no speed, and a
    branch from there can be begun."""
    first = bundled.generate("for i in range(", max_new_tokens=4, attention="none")
    assert first.alternatives is not None
    at = first.n_prompt
    other = next(int(i) for i in first.alternatives.ids[at] if i != first.ids[at])
    begun = bundled.fork(first, at, other, max_new_tokens=3, attention="none").cut(at + 1)
    assert begun.column("time_ms")[at] == 0
    assert math.isnan(begun.summary()["tokens_per_s"])
