"""What may not come does not come, whatever it is cut into, and the model's own numbers stay."""

from __future__ import annotations

import ast
import json
import re

import numpy as np
import pytest
import torch

from tests.worded import END, PIECES, Worded, tokenisations
from tokenscope import edits as e
from tokenscope.code.prefix_python import viable
from tokenscope.decode.appliers import prepared
from tokenscope.decode.engine import Engine
from tokenscope.decode.scene import Scene
from tokenscope.errors import InputError, UnknownName
from tokenscope.runs.generate import Settings, fork, generate
from tokenscope.runs.model import Model
from tokenscope.runs.replay import replay
from tokenscope.trace import Trace
from tokenscope.trace.edits import Standing, from_json, read

RUNS = 16  # of each kind; bench/edits.py makes 1,000


@pytest.fixture(scope="module")
def worded() -> Engine:
    return Engine(Worded())


def scene(engine: Engine, given: str, more: int = 50) -> Scene:
    tokens = engine.vocabulary.encode(given)
    return Scene(
        engine.backend, engine.info, engine.vocabulary, lambda: engine.pieces, tokens,
        len(tokens) + more, engine.backend.stop_ids,
    )  # fmt: skip


def banned(engine: Engine, edit: Standing, given: str, *ids: int) -> np.ndarray:
    """(V,): what an edit forbids after ``given`` and then ``ids``."""
    around = scene(engine, given)
    (process,) = prepared([edit], around).processors
    seen = [*around.given.ids.tolist(), *ids]
    return torch.isinf(process(torch.zeros(END + 1), seen)).numpy()


def random_strings(n: int, seed: int) -> list[str]:
    """Strings out of pieces, so that tokens straddle their ends; unicode among them."""
    random = np.random.default_rng(seed)
    whole = [p.decode() for p in PIECES[256:] if p.decode(errors="ignore").encode() == p and p]
    made = []
    while len(made) < n:
        text = "".join(random.choice(whole, random.integers(1, 4)))
        a, b = sorted(random.integers(0, len(text) + 1, 2))
        if b > a:
            made.append(text[a:b])
    return made


def test_a_ban_holds_against_every_token_after_every_beginning(worded: Engine) -> None:
    """By induction over tokens no tokenisation passes: 200 strings, every cut, all tokens."""
    for text in random_strings(200, 0):
        data = text.encode()
        for cut in range(len(data)):
            before = ("x " + data[:cut].decode(errors="ignore")).encode()
            lacking = data[len(before) - 2 : cut]  # bytes of a character that was cut
            got = banned(worded, e.BanText((text,)), before.decode(), *lacking)
            context = before + lacking
            want = [(context + p).find(data, max(0, len(context) - len(data) + 1)) >= 0
                    for p in PIECES] + [False]  # fmt: skip
            assert (got == want).all(), (text, cut)


def test_no_tokenisation_of_a_banned_string_can_be_drawn(worded: Engine) -> None:
    for text in random_strings(200, 1):
        for ids in tokenisations(text.encode(), 40):
            edit = e.BanText((text,))
            passed = [n for n, i in enumerate(ids) if not banned(worded, edit, "x", *ids[:n])[i]]
            assert passed == list(range(len(ids) - 1)), (text, ids)


def test_many_strings_are_banned_at_once(worded: Engine) -> None:
    texts = ("aba", "abacab", "bab", "日本")
    got = banned(worded, e.BanText(texts), "xab")
    want = [any(t.encode() in (b"xab" + p) for t in texts) for p in PIECES] + [False]
    assert (got == want).all()


def run(engine: Engine, prompt: str, seed: int, *edits: Standing, n: int = 14) -> Trace:
    hot = Settings(max_new_tokens=n, temperature=1.0, seed=seed, edits=edits, alternatives=0)
    return generate(engine, prompt=prompt, settings=hot).result()


def written(trace: Trace) -> bytes:
    return trace.tokens.slice(trace.n_prompt, len(trace)).data


def test_fuzzed_bans(worded: Engine) -> None:
    texts = ("os.system(", "eval(", "日本", "ä", "\n\n", "x")
    for seed in range(RUNS):
        trace = run(worded, "import o", seed, e.BanText(texts))
        whole = trace.tokens.data
        for text in texts:  # not begun in the prompt either
            assert text.encode() not in whole[len("import o") - len(text.encode()) + 1 :], seed


def test_fuzzed_requirements(worded: Engine) -> None:
    for seed in range(RUNS):
        text = random_strings(1, seed)[0]
        trace = run(worded, "x", seed, e.Require(text, within=12), n=20)
        assert text.encode() in written(trace)
        assert text.encode() in trace.tokens.slice(trace.n_prompt, trace.n_prompt + 12).data
        trace = run(worded, "x", seed, e.Require(text))
        assert written(trace).endswith(text.encode())
    with pytest.raises(InputError, match="tokens are left"):
        run(worded, "x", 0, e.Require("zzzzzz"), n=5)
    with pytest.raises(InputError, match="stop strings"):
        generate(worded, prompt="x", settings=Settings(stop=("y",), edits=(e.Require("z"),)))


def test_a_branch_remembers_that_a_requirement_is_kept(worded: Engine) -> None:
    trace = run(worded, "x", 3, e.Require("é", within=3), n=8)
    settings = Settings(max_new_tokens=2, edits=trace.origin.segments[-1].edits)
    for at in range(trace.n_prompt + 3, len(trace)):  # it lies further back than it is long
        assert fork(worded, trace, at, "", settings).result().finish != "stuck"


def test_fuzzed_expressions(worded: Engine) -> None:
    for seed in range(RUNS):
        for pattern in (r"(os|日本|eval)\(x{1,3}\)/?\n", r"[^x\n]{2,6}\n", r"ab|ac"):
            trace = run(worded, "x", seed, e.Regex(pattern), n=40)
            if trace.finish == "eos":
                assert re.fullmatch(pattern, written(trace).decode()), (pattern, written(trace))
    with pytest.raises(InputError, match="regex: cannot be read"):
        run(worded, "x", 0, e.Regex("(secret"))


SCHEMA = {
    "type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": ["a", "ä"]}},
    "required": ["ok", "n"], "additionalProperties": False,
}  # fmt: skip


def test_fuzzed_json_and_grammars(worded: Engine) -> None:
    ended = 0
    for seed in range(RUNS):
        trace = run(worded, "x", seed, e.JsonSchema(json.dumps(SCHEMA)), n=60)
        if trace.finish == "eos":
            ended += 1
            held = json.loads(written(trace))
            assert set(held) == {"ok", "n"} and type(held["ok"]) is bool and held["n"] in "aä"
        trace = run(worded, "x", seed, e.Grammar('start: "(" start ")" | "x"'), n=30)
        if trace.finish == "eos":
            depth = written(trace).count(b"(")
            assert written(trace) == b"(" * depth + b"x" + b")" * depth
    assert ended > RUNS / 4


def test_fuzzed_programs(worded: Engine) -> None:
    for seed in range(RUNS // 2):
        trace = run(worded, "x = ", seed, e.Viable(), n=8)
        if trace.finish == "eos":
            assert ast.parse(trace.text)
        ends = trace.tokens.offsets[trace.n_prompt :].tolist()
        assert all(viable(trace.tokens.data[:end]) for end in ends)  # each look from the start
    with pytest.raises(InputError, match="not the beginning"):
        run(worded, "x = = ", 0, e.Viable())
    assert run(worded, "x = = ", 0, e.Viable(scope="generated"), n=2)


def test_fuzzed_code_bans(worded: Engine) -> None:
    edit = e.BanCode(imports=("os",), calls=("eval", "*.system"))
    for seed in range(RUNS):
        trace = run(worded, "x = 1\n", seed, edit)
        text = trace.text
        assert not re.search(r"(?m)^\s*(import|from)\s+os\b", text), text
        assert not re.search(r"(?<![\w.])eval\s*\(|\.\s*system\s*\(", _code(text)), text


def _code(text: str) -> str:
    return re.sub(r"#[^\n]*|\"[^\"\n]*\"|'[^'\n]*'", "", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os", True), ("import sys, os", True), ("from os.path import x", True),
        ("import ossify", False), ("from x import os", False), ("# import os", False),
        ("s = 'import os'", False), ("import \\\n os", True), ("eval(", True), ("eval (x)", True),
        ("a.eval(", False), ("s = 'eval('", False), ("s = f'{eval(1)}'", True),
        ("retrieval(", False), ("a . execute\n(", True), ("x=1;import os", True),
        ("os\\\n.system(", True), ("ｅｖａｌ(", True), ("def f(): import os", True),
        ("raise x from os", False),
    ],
)  # fmt: skip
def test_what_counts_as_forbidden_code(text: str, found: bool) -> None:
    from tokenscope.code.forbidden import Forbidden

    forbidden = Forbidden(("os",), ("eval", "*.execute", "os.system"), "", "python", 0)
    assert forbidden.holds(text.encode()) is found
    beyond = Forbidden(("os",), ("eval", "*.execute", "os.system"), "", "python", len(text))
    assert not beyond.holds(text.encode())  # what was there before is let be
    if found:  # the cheap look before it must not miss the last byte
        data = text.encode()
        assert forbidden.suspects(data[:-1]) or forbidden.concerns(data[:-1], data[-1:])


def test_a_query_bans_in_any_language(worded: Engine) -> None:
    edit = e.BanCode(query="(return_statement) @r", language="javascript", scope="generated")
    for seed in range(3):
        assert "return" not in _code(run(worded, "x", seed, edit).text)
    with pytest.raises(InputError, match="query"):
        run(worded, "x", 0, e.BanCode(query="(nonsense) @x"))
    with pytest.raises(UnknownName):
        run(worded, "x", 0, e.BanCode(query="(x) @x", language="klingon"))


def test_a_text_gets_its_amount_however_it_is_cut(worded: Engine) -> None:
    """The sum of what is added along any tokenisation is the amount times the occurrences."""
    around = scene(worded, "x")
    zero = torch.zeros(END + 1)
    for text, said in (
        ("os.system", "os.system"),
        ("aba", "ababa"),
        ("日本", "日本"),
        ("ab", "aa"),
    ):
        (process,) = prepared([e.BiasText((text,), 6.0)], around).processors
        count = sum(said.startswith(text, n) for n in range(len(said)))
        left = next(
            k for k in range(len(text), -1, -1) if said.endswith(text[:k]) and k < len(text)
        )
        share = len(text[:left].encode()) / len(text.encode())
        for ids in tokenisations(said.encode(), 60):
            seen, total = around.given.ids.tolist(), 0.0
            for i in ids:
                total += float(process(zero, seen)[i])
                seen = [*seen, i]
            assert total == pytest.approx(6.0 * (count + share), abs=1e-5), (said, ids)


def test_the_models_own_numbers_stay(bundled: Model) -> None:
    """A mask that forbids what would not have come changes no column of the model's own."""
    prompt = "def add(a, b):\n    return a"
    alone = lambda: Model(bundled.backend)  # nothing kept, no pace learnt: the same passes
    plain = alone().generate(prompt, max_new_tokens=12, speculate="none")
    edits = (e.BanText(("zebra",)), e.Ban((5,)), e.Regex(r"(?s:.*)"), e.BiasText(("zebra",), 1.0))
    for edit in edits:
        masked = alone().generate(prompt, max_new_tokens=12, edits=[edit], speculate="none")
        assert masked.ids.tolist() == plain.ids.tolist()
        for name in ("logprob", "entropy", "margin"):
            gap = np.abs(masked.column(name) - plain.column(name))
            assert np.nanmax(gap) <= 1e-6, (edit.kind, name)
        n = masked.n_prompt
        price = masked.column("price")[n:]
        want = masked.column("logprob_masked")[n:] - masked.column("logprob")[n:]
        assert np.allclose(price, want, atol=1e-6) and np.isnan(masked.column("price")[:n]).all()


def test_the_price_of_a_mask_is_the_mass_it_takes(worded: Engine) -> None:
    edit = e.BanText(("x", "o", "1"))
    trace = run(worded, "y", 3, edit)
    for t in range(trace.n_prompt, len(trace)):
        seen = trace.ids[:t].tolist()
        p = torch.softmax(torch.from_numpy(Worded().script(seen)).double(), 0).numpy()
        kept = np.array([not any(c in q for c in (b"x", b"o", b"1")) for q in PIECES] + [True])
        assert trace.column("price")[t] == pytest.approx(-np.log(p[kept].sum()), abs=1e-5)


def test_edits_hold_from_and_up_to_a_position(worded: Engine) -> None:
    everything = tuple(range(256, END))  # all words: only single bytes are left
    trace = run(worded, "ab", 1, e.Ban(everything, at=5, until=8), n=12)
    words = [i >= 256 for i in trace.ids.tolist()]
    assert not any(words[5:8])
    free = run(worded, "ab", 1, n=12)
    assert trace.ids[:5].tolist() == free.ids[:5].tolist()
    price = np.abs(trace.column("price"))
    assert price[2:5].max() < 1e-6 and price[5:8].min() > 0.1


def test_a_branch_goes_on_with_its_grammar(worded: Engine) -> None:
    """An edit that was in force in the parent does not begin anew; one that was not does."""
    pattern = e.Regex(r"\(x{8}\)")
    trace = run(worded, "y", 2, pattern, n=20)
    assert trace.text == "y(xxxxxxxx)" and trace.finish == "eos"
    at = trace.n_prompt + 4
    settings = Settings(max_new_tokens=20, edits=(pattern,), alternatives=0)
    branch = fork(worded, trace, at, "", settings).result()
    assert branch.text == trace.text
    segment = branch.origin.segments[-1]
    assert segment.edits[0].at == trace.n_prompt  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="broken"):
        fork(worded, trace, at, "y", settings)
    other = fork(worded, trace, at, "", Settings(9, edits=(e.Regex("o"),), alternatives=0)).result()
    assert other.text == trace.text[:5] + "o"
    for made in (trace, branch, other):
        assert replay(worded, made).same


def test_a_run_that_may_not_go_on_ends_stuck(worded: Engine) -> None:
    trace = run(worded, "y", 0, e.Regex("xx"), e.Ban((END,)))
    assert (trace.text, trace.finish) == ("yxx", "stuck")
    assert replay(worded, trace).same


def test_every_kind_is_read_back_and_checked() -> None:
    made = [
        e.Ban((1,), at=3), e.Bias((1, 2), 1.5), e.BanText(("a", "é"), until=9),
        e.BiasText(("a",), -2.0), e.Require("x", 4), e.Regex("a+"), e.JsonSchema("{}"),
        e.Grammar("start: \"x\""), e.Viable(), e.BanCode(imports=("os",)),
    ]  # fmt: skip
    for edit in made:
        data = json.loads(json.dumps(edit.to_json()))
        assert from_json(data) == edit and read(data) == edit
        assert hash(edit) == hash(read(data))
        with pytest.raises(InputError, match="no other fields"):
            read({**data, "colour": "red"})
    for bad in (
        {"kind": "ban_text", "strings": []}, {"kind": "ban_text", "strings": ["\ud800"]},
        {"kind": "ban_text", "strings": [""]}, {"kind": "ban_text"}, {"kind": "force", "at": 1},
        {"kind": "json_schema", "schema": "[1]"}, {"kind": "require", "string": "x" * 300},
        {"kind": "viable", "cover": 1.0}, {"kind": "ban", "ids": [1], "at": -1},
        {"kind": "ban", "ids": [1], "at": 4, "until": 4}, {"kind": "ban_code"}, "ban",
        {"kind": "bias_text", "strings": ["a"], "amount": float("nan")},
    ):  # fmt: skip
        with pytest.raises(InputError):
            read(bad)
    with pytest.raises(UnknownName, match="ban_text"):
        read({"kind": "nonsense"})
