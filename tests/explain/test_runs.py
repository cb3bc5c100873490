"""The Python face on the bundled model: contract, sentence, tables, errors, turns."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.errors import AbilityError, InputError, UnknownName
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.methods import METHODS
from tokenscope.explain.places import Span, byte_sums, names_of, phrase, spans_of, tokens_in
from tokenscope.explain.sentence import Reason, best, sentence
from tokenscope.explain.tables import TABLES
from tokenscope.runs import heads
from tokenscope.runs.explain import Cancelled, Control, ablation, explain
from tokenscope.trace import Trace, trace_of

CODE = """import os
import subprocess


def run(command):
    os.system(command)
    return subprocess.run(command, shell="""


@pytest.fixture(scope="module")
def model() -> Iterator[ts.Model]:
    loaded = ts.load()
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def trace(model: ts.Model) -> Trace:
    return model.generate(CODE, max_new_tokens=4)


def test_the_contract(model: ts.Model, trace: Trace) -> None:
    at = trace.n_prompt
    why = model.explain(trace, at=at, contrast="False", method="input_x_gradient")
    assert why.values.shape == (at,) and why.values.dtype == np.float32
    assert why.target.at == at and why.target.a == trace.ids[at]
    assert why.contrast == "False" and why.gap is None and why.converged
    assert why.value == pytest.approx(why.logprob_a - why.logprob_b, abs=1e-4)
    assert why.logprob_a == pytest.approx(float(trace.column("logprob")[at]), abs=1e-3)
    frame = why.to_pandas()
    assert list(frame["index"]) == list(range(at)) and frame["line"].max() == 7
    lines = why.by_region("line")
    special = float(why.values[trace.tokens.special[:at]].sum())
    assert sum(r["value"] for r in lines) + special == pytest.approx(why.values.sum(), abs=1e-4)
    assert "`" in why.sentence and len(why.reasons) <= 8


def test_every_table_is_made_and_defined(model: ts.Model, trace: Trace) -> None:
    told: list[str] = []
    control = Control(lambda _done, _total, what: told.append(what))
    why = explain(model, trace, trace.n_prompt, also=TABLES.names(), control=control)
    plain = json.loads(json.dumps(why.to_json(), allow_nan=False))
    for name in TABLES.names():
        assert plain["tables"][name]["rows"], name
        assert len(why.table(name)) == len(plain["tables"][name]["rows"])
        assert set(why.tables[name].definitions) <= set(DEFINITIONS.names())
    used = {d for t in why.tables.values() for d in t.definitions}
    assert used <= set(plain["definitions"])
    assert {"ablation", "attention edges", "faithfulness", "occlusion"} <= set(told)
    components = sum(r["value"] for r in plain["tables"]["components"]["rows"])
    lens = plain["tables"]["lens"]["rows"]
    assert len(lens) == model.info.layers + 1
    assert lens[-1]["a"] == pytest.approx(why.logprob_a, abs=1e-3)
    assert np.isfinite(components)


def test_every_method_has_a_definition(model: ts.Model, trace: Trace) -> None:
    for name, method in METHODS:
        assert method.definition.formula and method.definition.source
        made = model.explain(trace, 12, method=name)
        assert made.values.shape == (12,) and np.isfinite(made.values).all()


def test_integrated_gradients_report_their_gap(model: ts.Model, trace: Trace) -> None:
    why = model.explain(trace, trace.n_prompt, contrast="False", method="integrated_gradients")
    assert why.gap is not None
    assert why.converged == (not why.note)


def test_ablation_of_one_part(model: ts.Model, trace: Trace) -> None:
    at = trace.n_prompt
    value, effect = ablation(model, trace, at, part="head", layer=0, head=1, how="zero")
    table = explain(model, trace, at, also=("ablation",)).table("ablation")
    mean = ablation(model, trace, at, part="head", layer=0, head=1)[1]
    row = table[(table.part == "head") & (table.layer == 0) & (table["head"] == 1)]
    assert row.effect.item() == pytest.approx(mean, abs=1e-4)
    assert np.isfinite([value, effect]).all()
    edge = ablation(model, trace, at, part="edge", layer=None, query=at - 1, key=3, how="cut")
    knockout = model.explain(trace, at, method="attention_knockout").values
    assert edge[1] == pytest.approx(float(knockout[3]), abs=1e-4)


def test_the_explorer(model: ts.Model, trace: Trace) -> None:
    full = model.generate(CODE, max_new_tokens=3, attention="full")
    n = len(full) - 1
    first = full.attention.first - 1
    recorded, source = heads.window(model, full, 2, 1, (first, n), (0, n))
    fresh, other = heads.window(model, trace, 2, 1, (first, n), (0, n))
    assert (source, other) == ("full", "recomputed")
    assert np.abs(recorded - fresh).max() <= 2e-3  # float16 record
    found = heads.find(model, trace, "previous")
    assert found[0].score >= found[-1].score
    edge = heads.find(model, trace, "edge", len(trace) - 2, [0])
    row = heads.window(model, trace, edge[0].layer, edge[0].head)[0][len(trace) - 2]
    assert edge[0].score == pytest.approx(float(row[0]), abs=1e-5)
    assert heads.rollout(model, trace).sum(-1) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"at": 0}, InputError),
        ({"at": 10_000}, InputError),
        ({"at": 5, "method": "magic"}, UnknownName),
        ({"at": 5, "also": ("magic",)}, UnknownName),
        ({"at": 5, "contrast": ""}, InputError),
        ({"at": 5, "contrast": 10**9}, InputError),
    ],
)
def test_bad_questions(model: ts.Model, trace: Trace, options: dict, error: type) -> None:
    with pytest.raises(error):
        explain(model, trace, **options)


def test_a_backend_without_internals_refuses_plainly() -> None:
    plain = ts.Model(ScriptedBackend())
    with pytest.raises(AbilityError, match="internals"):
        plain.explain(plain.score("abc"), 2)


def test_cancel(model: ts.Model, trace: Trace) -> None:
    with pytest.raises(Cancelled):
        explain(model, trace, 20, control=Control(cancelled=lambda: True))


# --- sentence and places ----------------------------------------------------------------------
def reason(text: str, start: int, end: int, drop: float) -> Reason:
    return Reason(Span(start, end, 3, "word", text), drop, drop)


def test_sentences() -> None:
    spans = [reason("os.system", 10, 19, 1.24), reason("os", 10, 12, 0.2)]
    say = lambda *a: sentence("shell=True", *a)
    assert say("shell=False", 2.0, spans, True) == (
        "chose `shell=True` over `shell=False` mainly because of `os.system` on line 3: "
        "62 % of the gap"
    )
    assert "without it `shell=False` would win" in say("shell=False", 1.0, spans, True)
    assert "for no single reason" in say("shell=False", 20.0, spans, True)
    assert say("shell=False", -1.0, spans, True).startswith("the model prefers `shell=False`")
    assert say("shell=False", 2.0, spans, False).startswith("would choose")
    assert say(None, float(np.log(0.41)), [reason("os", 0, 2, 2.6)], True) == (
        "gave `shell=True` 41 % mainly because of `os` on line 3: 3 % without it"
    )
    assert "nothing tried" in say("shell=False", 2.0, [reason("x", 0, 1, -1.0)], True)


def test_a_part_that_explains_the_whole_is_named() -> None:
    assert best([reason("os.system(x)", 10, 22, 1.0), reason("os.system", 10, 19, 0.9)]).span.text \
        == "os.system"  # fmt: skip
    assert best([reason("os.system(x)", 10, 22, 1.0), reason("x", 20, 21, 0.3)]).span.end == 22
    assert best([]) is None


def test_byte_sums_spread_a_token_over_its_bytes() -> None:
    trace = trace_of([1, 2, 3], [b"ab", b"cde", b""], 0)
    sums = byte_sums(trace.tokens, np.asarray([2.0, 3.0], dtype=np.float32))
    assert sums.tolist() == [0, 1, 2, 3, 4, 5]
    assert tokens_in(trace.tokens, 1, 3).tolist() == [0, 1]


def test_names_group_identifiers_by_spelling() -> None:
    pieces = [
        b"def", b" fo", b"o", b"(", b"x", b"):", b"\n", b" ", b"return", b" foo", b"(", b"x", b")",
    ]  # fmt: skip
    trace = trace_of(list(range(13)), pieces, 0)
    names = names_of(trace)
    assert names.name[1] == names.name[2] == names.name[9] >= 0
    assert names.place[1] == names.place[2] != names.place[9]
    assert names.name[4] == names.name[11] >= 0 and names.name[0] == -1


def test_spans_and_phrases() -> None:
    pieces = [b"import os\n", b"os.system(x)\n", b"run(shell=", b"True"]
    trace = trace_of([0, 1, 2, 3], pieces, 0)
    assert {"os.system", "os"} & {s.text for s in spans_of(trace, 22)}
    assert all(s.end <= 22 for s in spans_of(trace, 22))
    assert phrase(trace.tokens, 3, b"True") == "shell=True"
    assert phrase(trace.tokens, 3, b" x") == "x"
