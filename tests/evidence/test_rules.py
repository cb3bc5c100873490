"""Rule packs: what the starter pack finds, measured; what a pack may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenscope.code.aliases import language_of_file
from tokenscope.errors import InputError, UnknownName
from tokenscope.evidence.check import Code, Options, find
from tokenscope.evidence.measured import frame, hit, measure
from tokenscope.evidence.pack import Pack, Rule, read_pack, read_packs, starter

SAMPLES = Path(__file__).parents[1] / "code" / "samples"
RULES = [(p, r) for p in starter() for r in p.rules]


@pytest.mark.parametrize(
    ("pack", "rule"), RULES, ids=lambda v: getattr(v, "id", v.__class__.__name__)
)
def test_every_rule_finds_most_bad_samples_and_leaves_all_good_ones(pack: Pack, rule: Rule) -> None:
    hits = {s: hit(pack.name, rule, s.code.encode(), s.language) for s in rule.samples}
    bad = [h for s, h in hits.items() if s.bad]
    assert len(bad) >= 3 and sum(not s.bad for s in hits) >= 3
    assert sum(bad) >= 0.6 * len(bad)
    assert not [s.code for s, h in hits.items() if h and not s.bad]


def test_the_languages_that_were_promised_are_there() -> None:
    assert {n for _, r in RULES for n in r.queries} >= {
        "javascript", "java", "go", "c", "php", "sql", "python",
    }  # fmt: skip
    kinds = {r.id for p, r in RULES if p.name == "java"}
    assert kinds >= {"command-injection", "sql-injection", "weak-hash", "script-eval",
                     "unsafe-deserialisation", "path-join", "tls-off"}  # fmt: skip


def test_a_pack_says_how_good_it_is_with_intervals() -> None:
    rows = measure(starter())
    whole = [r for r in rows if r.rule == "all"]
    assert len(whole) == len(starter())
    for row in whole:
        assert row.recall.lower < row.recall.value < 1.0  # known misses are among the samples
        assert row.false_alarms.value == 0.0 < row.false_alarms.upper
    table = frame(rows)
    assert len(table) == len(RULES) + len(whole) and set(table["pack"]) == {
        p.name for p in starter()
    }


def test_ordinary_code_raises_hardly_any_alarm() -> None:
    found = {}
    for file in sorted(SAMPLES.iterdir()):
        language = language_of_file(file)
        if file.suffix != ".snap" and language:
            code = Code(file.read_bytes(), language, True)
            found[file.name] = [f.rule for f in find(code, ["rules"]).findings]
    assert sum(map(len, found.values())) <= 3, found


def test_a_rule_works_on_code_that_breaks_off_and_spans_the_capture() -> None:
    code = b"function f(x) {\n  if (x) { db.query('SELECT a FROM t WHERE b = ' + x); eval(x); y = ("
    found = find(Code(code, "javascript"), ["rules"]).findings
    assert [(f.rule, code[f.start : f.end]) for f in found] == [
        ("javascript/sql-injection", b"db.query('SELECT a FROM t WHERE b = ' + x)"),
        ("javascript/eval", b"eval(x)"),
    ]
    assert found[0].cwe == 89 and found[0].severity == "high"


def test_own_rules_are_used_in_place_of_the_starter_pack(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "pack: own\nrules:\n- id: no-print\n  languages: [python]\n  message: no print\n"
        "  query: '(call function: (identifier) @f (#eq? @f \"print\")) @finding'\n"
        "  bad: ['print(1)']\n  good: ['log(1)']\n"
    )
    packs = read_packs(tmp_path)
    found = find(Code(b"print(eval(x))", "python", True), ["rules"], Options(packs=packs)).findings
    assert [(f.rule, f.severity, f.cwe) for f in found] == [("own/no-print", "medium", 0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [", "YAML"),
        ("a: 1", "rules"),
        ("rules: [3]", "rule 1"),
        ("rules: [{id: a, languages: [python], message: m, query: '(x'}]", "(a)"),
        ("rules: [{id: a, languages: [python], message: m, query: '(call) @x'}]", "@finding"),
        ("rules: [{id: a, languages: [c], message: m, query: '(call) @finding', z: 1}]", "z"),
        ("rules: [{id: a, languages: [klingon], message: m, query: '(a)'}]", "klingon"),
        ("rules: [{id: a, languages: [python], cwe: x, message: m, query: '(a)'}]", "cwe"),
        ("rules: [{id: a, languages: [python], severity: bad, message: m, query: '(a)'}]",
         "severity"),
        ("!!python/object/apply:os.system ['true']", "YAML"),
    ],
)  # fmt: skip
def test_a_broken_pack_is_refused_by_name_and_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises((InputError, UnknownName)) as raised:
        read_pack(file)
    assert says in str(raised.value)
