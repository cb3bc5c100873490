"""Two traces side by side: alignment over bytes, distances against whole distributions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenscope as ts
from tokenscope.cli.commands import run
from tokenscope.errors import InputError
from tokenscope.explore.aligned import aligned
from tokenscope.explore.divergence import exact, of_bytes, of_tops
from tokenscope.runs.model import Model
from tokenscope.trace import Tokens, Trace, trace_of


@pytest.fixture(scope="module")
def pair(bundled: Model) -> tuple[Trace, Trace]:
    trace = bundled.generate("def total(xs):\n    n = 0\n    for x in", max_new_tokens=12)
    return trace, bundled.fork(trace, at=trace.n_prompt, token=" zip", max_new_tokens=12)


PIECES = st.lists(st.sampled_from([b"ab", b" x", b"=", b"1", b"\n", b"foo", b"\xc3", b"\xa9", b""]))


@settings(max_examples=150, deadline=None)
@given(PIECES, PIECES)
def test_cells_hold_all_tokens_of_both_and_same_means_the_same(
    one: list[bytes], two: list[bytes]
) -> None:
    a, b = Tokens.of(range(len(one)), one), Tokens.of(range(len(two)), two)
    at = (0, 0)
    for cell in aligned(a, b):
        assert (cell.a[0], cell.b[0]) == at
        at = (cell.a[1], cell.b[1])
        same = a.slice(*cell.a).data == b.slice(*cell.b).data
        assert same or not cell.same
    assert at == (len(one), len(two))


def test_other_tokens_of_one_text_meet_at_common_boundaries() -> None:
    a = Tokens.of([1, 2, 3], [b"def", b" fib", b"(n)"])
    b = Tokens.of([7, 8, 9, 5], [b"de", b"f fib", b"(", b"n)"])
    cells = aligned(a, b)
    assert [(c.a, c.b, c.same) for c in cells] == [((0, 2), (0, 2), True), ((2, 3), (2, 4), True)]


def test_branches_part_and_meet(bundled: Model, pair: tuple[Trace, Trace]) -> None:
    a, b = pair
    found = ts.compare(a, b)
    assert found.fork is not None
    cell = found.cells[found.fork]
    assert cell.a[0] == a.n_prompt == cell.b[0]
    joint = found.joint()
    assert joint["after"]["b"] == pytest.approx(
        float(np.nansum(b.column("logprob")[b.n_prompt :].astype(np.float64))), abs=1e-5
    )
    assert found.same_tokenizer and not found.same_text
    same = bundled.compare(a, a)
    assert same.fork is None and same.same_text and same.same_shape
    assert same.mean_apart()["tv_high"] == pytest.approx(0.0, abs=1e-6)


def test_where_they_meet_again() -> None:
    a = trace_of(range(4), [b"x = 1\n", b"print(x)\n", b"return", b" x\n"], 0, logprob=[-1] * 4)
    b = trace_of(range(4), [b"x = 2\n", b"print(x)\n", b"return", b" x\n"], 0, logprob=[-2] * 4)
    found = ts.compare(a, b)
    assert found.meets is not None
    assert (found.meets.a, found.meets.b) == ((1, 4), (1, 4))
    assert found.joint()["differs"] == {"a": -1.0, "b": -2.0}


def test_distances_are_those_of_the_whole_distributions(
    bundled: Model, pair: tuple[Trace, Trace]
) -> None:
    """Against logits of transformers' own forward; bounds from alternatives hold around them."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(bundled.path, dtype=torch.float64).eval()
    a, b = pair
    exactly, bounded = bundled.compare(a, b), ts.compare(a, b)
    with torch.inference_mode():
        logp = [
            torch.log_softmax(hf(torch.tensor([t.ids.tolist()])).logits[0], -1).numpy()
            for t in (a, b)
        ]
    t = a.n_prompt
    p, q = logp[0][t], logp[1][t]
    kl = float((np.exp(p) * (p - q)).sum())
    tv = 0.5 * float(np.abs(np.exp(p) - np.exp(q)).sum())
    after, rough = exactly.after_fork, bounded.after_fork
    assert after is not None and rough is not None and after.exact and not rough.exact
    assert after.kl == pytest.approx(kl, abs=1e-5)
    assert after.low == pytest.approx(tv, abs=1e-5) == after.high
    assert rough.kl is not None and rough.kl <= kl + 1e-5
    assert rough.low - 1e-5 <= tv <= rough.high + 1e-5
    assert exactly.at_fork is not None and exactly.at_fork.high < 1e-6
    assert set(exactly.apart) == set(bounded.apart)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0.2, 4.0))
def test_bounds_of_tops_hold(seed: int, k: int, heat: float) -> None:
    random = np.random.default_rng(seed)
    p, q = (np.log(random.dirichlet(np.full(20, 0.5)) + 1e-12) * heat for _ in range(2))
    p, q = p - np.log(np.exp(p).sum()), q - np.log(np.exp(q).sum())
    truth = exact(p, q)
    tops = [{int(i): float(x[i]) for i in np.argsort(-x)[:k]} for x in (p, q)]
    found = of_tops(*tops)
    assert found.kl is not None and truth.kl is not None
    assert found.kl <= truth.kl + 1e-9
    assert found.low - 1e-9 <= truth.low <= found.high + 1e-9
    group = lambda x: {b: float(np.exp(x[b::4]).sum()) for b in range(4)}
    told = [
        {b: sum(float(np.exp(v)) for i, v in t.items() if i % 4 == b) for b in range(4)}
        for t in tops
    ]
    tv = 0.5 * sum(abs(group(p)[b] - group(q)[b]) for b in range(4))
    byte = of_bytes(*told)
    assert byte.low - 1e-9 <= tv <= byte.high + 1e-9


def test_two_tokenizers_are_compared_by_the_next_byte(
    bundled: Model, pair: tuple[Trace, Trace]
) -> None:
    from tokenscope.backends.scripted import ScriptedBackend, saying
    from tokenscope.decode.engine import Engine
    from tokenscope.runs.generate import score

    text = pair[0].text
    other = score(Engine(ScriptedBackend(saying(text))), text).result()
    found = ts.compare(pair[0], other)
    assert not found.same_tokenizer and found.same_text and found.fork is None
    assert found.apart and all(x.over == "bytes" and x.kl is None for x in found.apart.values())
    frame = found.to_pandas(["surprisal"])
    assert frame.surprisal_a.sum() == pytest.approx(
        np.nansum(pair[0].column("surprisal")), rel=1e-5
    )
    assert frame.surprisal_b.sum() == pytest.approx(np.nansum(other.column("surprisal")), rel=1e-5)


def test_rollups_and_syntax_side_by_side(pair: tuple[Trace, Trace]) -> None:
    found = ts.compare(*pair)
    rolled = found.rollup("surprisal", by="function", part="all")
    assert len(rolled) == 1
    assert {"sum_a", "sum_b"} <= set(rolled.columns)
    assert rolled.sum_a.notna().all() and rolled.sum_b.notna().all()
    assert any(c["change"] == "changed" for c in found.syntax())
    json.dumps(found.to_json(), allow_nan=False)
    assert "<mark>" in found._repr_html_()


def test_another_model_is_refused(bundled: Model, pair: tuple[Trace, Trace]) -> None:
    from dataclasses import replace

    alien = replace(pair[0], origin=replace(pair[0].origin, model_digest="other"))
    with pytest.raises(InputError, match="models"):
        bundled.compare(alien, pair[1])


def test_the_command(
    pair: tuple[Trace, Trace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = str(pair[0].save(tmp_path / "a.trace")), str(pair[1].save(tmp_path / "b.trace"))
    assert run(["compare", one, two, "--json"]) == 0
    found = json.loads(capsys.readouterr()[0])
    assert found["fork"]["a"] == pair[0].n_prompt
    assert run(["compare", one, two, "--exact", "--by", "function", "--json"]) == 0
    found = json.loads(capsys.readouterr()[0])
    assert found["after_fork"]["exact"] and found["rollup"]["surprisal"]
    assert run(["compare", one, two]) == 0
    assert "they part at token" in capsys.readouterr()[1]
    assert run(["compare", one, "nowhere"]) == 2
