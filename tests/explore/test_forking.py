"""Forking tokens on a model whose only decision is known, and on the bundled one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tokenscope.backends.scripted import END, F32, ScriptedBackend
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.runs.forking import forking
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.model import Model
from tokenscope.trace import Trace

# after "go:" the first letter decides the ending; the blank or tab after it changes nothing that
# the key sees; all else is sure
P = {"a": 0.5, "b": 0.3, "c": 0.2}


def script(seen: Sequence[int]) -> F32:
    text = bytes(i for i in seen if i < 256)
    said = text.split(b":", 1)[1] if b":" in text else b""
    p: dict[int, float]
    if len(said) == 0:
        p = {ord(k): v for k, v in P.items()}
    elif len(said) == 1:
        p = {ord(" "): 0.6, ord("\t"): 0.4}
    elif len(said) == 2:
        p = {ord("x" if said[:1] in b"ac" else "y"): 1.0}
    else:
        p = {END: 1.0}
    logits = np.full(257, -40.0, dtype=np.float32)
    for token, mass in p.items():
        logits[token] = np.log(mass)
    return logits


@pytest.fixture
def made() -> tuple[Engine, Trace]:
    engine = Engine(ScriptedBackend(script))
    settings = Settings(max_new_tokens=8, alternatives=4, attention="none")
    return engine, generate(engine, prompt="go:", settings=settings).result()


def test_the_only_decision_is_found(made: tuple[Engine, Trace]) -> None:
    engine, trace = made
    assert trace.generated == "a x"
    found = forking(engine, trace, width=3, outcome=lambda e: e.text[-1:], check=2)
    tv, gate = found.trace.column("fork_tv"), found.trace.column("fork_gate")
    n = trace.n_prompt
    assert tv[n] == pytest.approx(0.3, abs=1e-6)  # b alone leads elsewhere
    assert tv[n + 1] == pytest.approx(0.0, abs=1e-6)  # uncertain, but cosmetic
    assert gate[n : n + 4].tolist() == [1.0, 1.0, 0.5, 0.5]
    assert np.isnan(tv[:n]).all()
    assert found.trace.column_of("fork_tv").quality == "estimate"
    assert found.skipped_share == 0.5
    assert found.checked["n"] == 2 and found.checked["missed"] == 0
    assert found.places[0].outcomes == pytest.approx({"x": 0.7, "y": 0.3}, abs=1e-6)


def test_the_check_tells_what_a_bad_gate_misses(made: tuple[Engine, Trace]) -> None:
    engine, trace = made
    found = forking(engine, trace, width=3, threshold=5.0, outcome=lambda e: e.text[-1:])
    assert found.skipped == found.tokens == 4
    assert found.checked["missed"] == 1
    assert found.checked["most"] == pytest.approx(0.3, abs=1e-6)
    margin = forking(engine, trace, width=3, gate="margin", threshold=0.25, check=0,
                     outcome=lambda e: e.text[-1:])  # fmt: skip
    assert [p.at - trace.n_prompt for p in margin.places] == [0, 1]
    one = forking(engine, trace, width=2, outcome=lambda e: e.text[-1:], check=0).places[0]
    assert (one.low, one.high) == pytest.approx((0.3, 0.5), abs=1e-6)


def test_on_the_bundled_model(bundled: Model) -> None:
    trace = bundled.generate("def add(a, b):\n    return ", max_new_tokens=8)
    found = bundled.forking(trace, stop=["\n"], check=1)
    assert len(found.to_pandas()) == len(found.places) > 0
    assert all(0.0 <= p.low <= p.high <= 1.0 for p in found.places)
    with pytest.raises(InputError, match="alternatives"):
        bundled.forking(trace, width=50)
    with pytest.raises(InputError, match="gate"):
        bundled.forking(trace, gate="taste")
