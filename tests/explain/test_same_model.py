"""Explanations run the very model that decoded: families of every kind, built by the bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import tokenscope as ts
from bench.families import build
from tokenscope.errors import AbilityError
from tokenscope.runs import heads
from tokenscope.runs.explain import Explaining, ablation
from tokenscope.trace.columns import Column

CODE = "def add(a, b):\n    return"
# own eager attention; masks of their own (MPT: True means hidden); mixers beside attention
KINDS = ("codegen", "gptj", "bloom", "falcon", "mpt", "falcon_h1", "recurrent_gemma")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    loaded = ts.load(build(request.param, tmp_path_factory.mktemp("family")))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ts.Model]:
    loaded = ts.load(build("mamba", tmp_path_factory.mktemp("mamba")))
    yield loaded
    loaded.close()


def test_f_is_the_traces_own_logprob(model: ts.Model) -> None:
    trace = model.generate(CODE, max_new_tokens=12, attention="full")
    at = len(trace) - 1
    why = model.explain(trace, at, method="input_x_gradient")
    assert why.logprob_a == pytest.approx(float(trace.column("logprob")[at]), abs=1e-4)
    knocked = model.explain(trace, at, method="attention_knockout").values
    assert np.abs(knocked).max() > 1e-4  # it really cuts
    value, effect = ablation(model, trace, at, part="edge", layer=None, query=at - 1, key=3,
                             how="cut")  # fmt: skip
    assert effect == pytest.approx(float(knocked[3]), abs=1e-4)
    assert value == pytest.approx(why.value, abs=1e-4)
    # beyond a sliding window (RecurrentGemma's has 6 keys) the record holds the right keys
    layer = model.info.attention_layers[0]
    seen = heads.window(model, trace, layer, "mean", (at - 1, at), (0, at))[0][0]
    trace = replace(trace, attention=None)
    again = heads.window(model, trace, layer, "mean", (at - 1, at), (0, at))[0][0]
    assert np.abs(seen - again).max() <= 2e-3 and seen.sum() == pytest.approx(1, abs=1e-2)


def test_parts_add_up_or_are_refused_alone(model: ts.Model) -> None:
    trace = model.generate(CODE, max_new_tokens=2)
    job = Explaining(model, trace, len(trace) - 1, method="input_x_gradient")
    made = job.attribution()
    parts = job.table(made, "components")
    if not parts.refused:
        rows = sum(float(r["value"]) for r in parts.rows)
        assert f"{rows:.2f}"[:-1] in parts.note or abs(rows) < 1
        assert "error of" in parts.note
    assert job.table(made, "lens").rows[-1]["a"] == pytest.approx(made.logprob_a, abs=1e-3)


def test_no_attention_no_knockout(mamba: ts.Model) -> None:
    trace = mamba.generate(CODE, max_new_tokens=2)
    at = len(trace) - 1
    with pytest.raises(AbilityError, match="no attention"):
        mamba.explain(trace, at, method="attention_knockout")
    with pytest.raises(AbilityError, match="no attention"):
        ablation(mamba, trace, at, part="edge", layer=None, query=at - 1, key=0, how="cut")
    with pytest.raises(AbilityError, match="no attention heads"):
        ablation(mamba, trace, at, part="head", layer=0, head=0)
    with pytest.raises(AbilityError, match="no MLP"):
        ablation(mamba, trace, at, part="mlp", layer=0)
    job = Explaining(mamba, trace, at, method="input_x_gradient")
    made = job.attribution()
    for name in ("ablation", "edges"):
        table = job.table(made, name)
        assert table.refused and not table.rows and table.note.startswith("Not made")
    assert not job.table(made, "lens").refused  # the others are made all the same


def test_what_is_not_the_recorded_run_is_refused(bundled: ts.Model) -> None:
    trace = bundled.generate(CODE, max_new_tokens=3)
    at = len(trace) - 1
    wrong = trace.column("logprob").copy()
    wrong[at] -= 0.17
    other = replace(trace, columns={**trace.columns, "logprob": Column("logprob", wrong)})
    with pytest.raises(AbilityError) as refusal:
        bundled.explain(other, at, method="input_x_gradient")
    for number in (trace.column("logprob")[at], wrong[at]):
        assert f"{number:.4f}" in str(refusal.value)
    with pytest.raises(AbilityError, match="cannot be explained"):
        ablation(bundled, other, at, part="mlp", layer=0)


def test_a_mean_over_one_token_is_refused(bundled: ts.Model) -> None:
    trace = bundled.score("def")
    if len(trace) < 2:
        trace = bundled.score("def f")
    with pytest.raises(AbilityError, match="one token"):
        ablation(bundled, trace, 1, part="mlp", layer=0, how="mean")
