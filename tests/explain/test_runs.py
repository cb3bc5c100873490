"""The Python face on the bundled model: contract, sentence, tables, errors, turns."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.cli.explain import explain as cli_explain
from tokenscope.errors import AbilityError, InputError, UnknownName
from tokenscope.explain import perturb, reasons
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.methods import METHODS
from tokenscope.explain.perturb import occlude
from tokenscope.explain.places import Span, byte_sums, names_of, phrase, spans_of, tokens_in
from tokenscope.explain.sentence import Evidence, Reason, beside, best, sentence
from tokenscope.explain.tables import TABLES
from tokenscope.runs import heads
from tokenscope.runs.explain import Cancelled, Control, ablation, asked_of, explain
from tokenscope.server.explain_wire import ExplainRequest
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
    assert why.gap is not None and abs(why.gap) <= 0.05 and why.converged


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


def test_a_search_and_a_window_ask_whether_to_go_on(model: ts.Model, trace: Trace) -> None:
    for work in (
        lambda c: heads.find(model, trace, "previous", control=c),
        lambda c: heads.find(model, trace, "edge", 9, [2], control=c),
        lambda c: heads.window(model, trace, 0, "mean", weighting="norm", control=c),
    ):
        for asked in (1, 2):
            answers = iter([False] * (asked - 1) + [True] * 99)
            with pytest.raises(Cancelled):
                work(Control(cancelled=answers.__next__))


# --- sentence and places ----------------------------------------------------------------------
def reason(text: str, start: int, end: int, drop: float) -> Reason:
    return Reason(Span(start, end, 3, "word", text), drop, drop)


def test_sentences() -> None:
    spans = [reason("os.system", 10, 19, 1.24), reason("os", 10, 12, 0.2)]
    seen = Evidence(0.0, 40, 2, 1, 30, 0.1)
    say = lambda *a, e=seen: sentence("shell=True", *a, e)
    assert say("shell=False", 2.0, spans, True) == (
        "chose `shell=True` over `shell=False` mainly because of `os.system` on line 3: "
        "62 % of what the text adds"
    )
    assert "without it `shell=False` would win" in say("shell=False", 1.0, spans, True)
    none = say("shell=False", 20.0, spans, True)
    assert "for no single reason: of 40 spans tried" in none  # said only of what was measured
    assert say("shell=False", -1.0, spans, True).startswith("the model prefers `shell=False`")
    assert say("shell=False", 2.0, spans, False).startswith("would choose")
    assert say(None, float(np.log(0.41)), [reason("os", 0, 2, 2.6)], True,
               e=Evidence(float(np.log(0.01)), 40)) == (
        "gave `shell=True` 41 % mainly because of `os` on line 3: 3 % without it"
    )  # fmt: skip
    nothing = say("shell=False", 2.0, [reason("x", 0, 1, -1.0)], True)
    assert "none of 40 spans tried" in nothing


def test_what_the_model_says_without_the_text_is_no_reason() -> None:
    spans = [reason("os.system", 10, 19, 0.4)]
    say = lambda b, f, prior: sentence("a", b, f, spans, True, Evidence(prior, 40))
    assert "mostly by habit: with none of this text the gap is 1.8 nats" in say("b", 2.0, 1.8)
    assert "50 % of what the text adds" in say("b", 2.0, 1.2)  # 0.4 of 0.8, not 0.4 of 2.0
    spans = [reason("os.system", 10, 19, 0.1)]
    alone = say(None, float(np.log(0.95)), float(np.log(0.9)))
    assert alone == "gave `a` 95 % mostly by habit: 90 % with none of this text"


def test_beside_the_sentence_stand_rank_and_recency() -> None:
    text = beside(Evidence(-1.19, 40, 1, 3, 41, 0.5), 5.83)
    assert "Rank 3 of 42 spans of 1 token" in text and "last 1 token costs 0.50" in text
    assert "recency alone may explain it" in beside(Evidence(0.0, 40, 1, 1, 41, None), 5.0)
    assert beside(Evidence(0.5, 3), 1.0) == "With none of the text f is 0.50 nats, with it 1.00."


PRIME = """def is_prime(n):
    if n < 2:
        return False
    for i in range(2, n):
        if n % i == 0:
            return"""


def test_the_largest_cause_is_found(model: ts.Model, monkeypatch: Any) -> None:
    """Whatever method is shown, the span named costs most of all that occlusion can find."""
    monkeypatch.setattr(reasons, "WINDOWS", 1000)
    trace = model.score(PRIME + " False")
    at = max(i for i in range(len(trace)) if trace.tokens[i].text == " False")
    why = model.explain(trace, at, contrast=" True", method="attention_mean")
    asked = asked_of(model, trace, at, " True", None)
    spans = spans_of(trace, int(trace.tokens.offsets[at]))
    inside = [tokens_in(trace.tokens, s.start, s.end) for s in spans]
    drops = occlude(asked, inside)  # every span, one by one
    assert why.reasons[0].drop == pytest.approx(float(drops.max()), abs=1e-4)
    assert why.evidence is not None and why.evidence.rank is not None
    named = best(list(why.reasons))
    assert named is not None
    size = why.evidence.size
    tokens = tokens_in(trace.tokens, named.span.start, named.span.end)
    groups = [np.arange(a, a + size) for a in range(asked.start, at - size + 1)]
    free = [g for g in groups if not set(g.tolist()) & set(tokens.tolist())]
    worse = int((occlude(asked, free) > named.drop).sum())
    assert (why.evidence.rank, why.evidence.of) == (1 + worse, len(free))
    embeds = asked.embeds().clone()
    embeds[:, asked.start :] = asked.internals.mean_embedding()
    assert why.evidence.prior == pytest.approx(float(asked.values(embeds)[0]), abs=1e-5)


def test_the_default_is_occlusion_on_every_face(model: ts.Model, trace: Trace) -> None:
    assert model.explain(trace, 12).method == "occlusion"
    assert ExplainRequest(at=1).method == "occlusion"
    assert inspect.signature(cli_explain).parameters["method"].default == "occlusion"
    page = Path(__file__).parents[2] / "web" / "src" / "views" / "why" / "job.svelte.ts"
    assert "method = $state('occlusion')" in page.read_text()


def test_a_long_text_goes_by_lines_first(model: ts.Model, monkeypatch: Any) -> None:
    trace = model.score(PRIME + " False")
    at = len(trace) - 1
    monkeypatch.setattr(perturb, "WHOLE", 16)
    asked = asked_of(model, trace, at, None, None)
    made = perturb.occlusion(asked)
    whole = [np.arange(a, b) for a, b in asked.lines]
    assert [t for line in asked.lines for t in range(*line)] == list(range(asked.start, at))
    exact = occlude(asked, [np.asarray([i]) for i in range(at)])
    last = whole[-1]
    assert made.values[last] == pytest.approx(exact[last], abs=1e-5)
    lost = occlude(asked, whole)
    closed = [i for i, g in enumerate(whole) if not np.allclose(made.values[g], exact[g])]
    assert closed and len(closed) < len(whole)
    for i in closed:
        assert made.values[whole[i]].sum() == pytest.approx(float(lost[i]), abs=1e-4)
    assert "lines were taken out" in made.note


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
