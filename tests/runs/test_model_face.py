"""The Python face on the bundled model: the contract that others build on."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.runs.model import Model
from tokenscope.trace import Trace

PROMPT = "def fib(n):\n"


@pytest.fixture(scope="module")
def trace(bundled: Model) -> Trace:
    return bundled.generate(PROMPT, max_new_tokens=24)


def test_the_contract(bundled: Model, trace: Trace) -> None:
    assert trace.text.startswith(PROMPT)
    assert isinstance(trace.tokens[5].bytes, bytes)
    assert trace.ids.dtype == np.int32
    assert trace.column("entropy").shape == (len(trace),)
    assert trace.column("entropy").dtype == np.float32
    assert trace.alternatives is not None
    assert trace.alternatives.ids.shape == (len(trace), 10)
    assert trace.attention is not None
    t = trace.n_prompt + 3
    row = trace.attention.row(1, 1, t)
    assert row.shape == (t,)
    assert row.dtype == np.float32
    branch = bundled.fork(trace, at=t, token=" while", max_new_tokens=4)
    assert branch.ids[:t].tolist() == trace.ids[:t].tolist()
    score = bundled.score(trace.text)
    assert set(score.columns) >= {"logprob", "entropy", "perplexity"}
    assert bundled.path


def test_the_recorded_path_is_the_fast_one(bundled: Model) -> None:
    assert bundled.info.kernel == "tokenscope"
    assert any("lean step checked" in note for note in bundled.info.notes)


def test_lean_step_equals_the_long_way(bundled: Model) -> None:
    fast = bundled.generate(PROMPT, max_new_tokens=40)
    bundled.prefixes.clear()
    scored = bundled.score("x")
    assert len(scored)
    compact, bundled.backend.compact = bundled.backend.compact, None  # type: ignore[attr-defined]
    bundled.prefixes.clear()
    try:
        slow = bundled.generate(PROMPT, max_new_tokens=40)
    finally:
        bundled.backend.compact = compact  # type: ignore[attr-defined]
    assert slow.ids.tolist() == fast.ids.tolist()
    for name in ("logprob", "entropy", "margin"):
        assert np.nanmax(np.abs(slow.column(name) - fast.column(name))) <= 1e-4


def test_infill_and_what_it_cannot(bundled: Model) -> None:
    trace = bundled.infill("def add(a, b):\n", "\nprint(add(1, 2))\n", max_new_tokens=8)
    assert trace.origin.form == "infill"
    assert list(trace.tokens.labels.values())[:1] == ["<|fim_prefix|>"]
    with pytest.raises(AbilityError, match="chat template"):
        bundled.chat([{"role": "user", "content": "hi"}])


def test_refusals(bundled: Model) -> None:
    with pytest.raises(CapacityError) as caught:
        bundled.generate("x = 1\n" * 200_000)
    assert caught.value.fits is not None
    with pytest.raises(CapacityError):
        bundled.generate("x = 1\n" * 2_000)
    with pytest.raises(InputError, match="surrogate"):
        bundled.generate("a\udc80")


def test_html_is_self_contained_and_tame(bundled: Model, trace: Trace) -> None:
    page = trace._repr_html_()
    assert "<script" not in page
    assert not re.search(r"\b(src|href)=|url\(|@import", page)  # the code itself may name addresses
    hostile = bundled.score("</span><script>alert(1)</script>\u202e")
    page = hostile._repr_html_()
    assert "<script" not in page
    assert "\u202e" not in page
    assert len(re.findall("<span", page)) > len(hostile)


def test_lazy_names() -> None:
    assert ts.Trace is Trace
    with pytest.raises(AttributeError):
        ts.nonesuch  # noqa: B018
