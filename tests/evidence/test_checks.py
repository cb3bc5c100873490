"""What checks find, at which bytes and tokens, in whole code and in code that breaks off."""

from __future__ import annotations

import ast
import io
import tokenize

import numpy as np
import pytest

from tokenscope.evidence.check import Code, Options, find
from tokenscope.evidence.checks.imports import standard
from tokenscope.evidence.checks.secrets import bits
from tokenscope.evidence.closing import close_python, open_at_end, parses
from tokenscope.trace.findings import Finding
from tokenscope.trace.tokens import Tokens

INSECURE = '''import subprocess, pickle
def größe(cmd, naïve="é"):
    """Doc: subprocess.call(x, shell=True) is only talk."""
    try:
        subprocess.call(
            cmd + "ü", shell=True,
        )
    except Exception:
        pass
    return pickle.loads(cmd), hashlib.md5(cmd), eval(cmd)
password = "hunter2hunter2"
'''


def spans(text: str, rule: str, complete: bool = True) -> list[str]:
    data = text.encode()
    found = find(Code(data, "python", complete), ["bandit"])
    return [data[f.start : f.end].decode() for f in found.findings if f.rule == rule]


def cut_into(data: bytes, size: int) -> Tokens:
    """Tokens of ``size`` bytes, whatever characters they split."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return Tokens.of(range(len(pieces)), pieces)


def test_bandit_finds_the_very_call_behind_characters_of_several_bytes() -> None:
    assert spans(INSECURE, "bandit/B602") == [
        'subprocess.call(\n            cmd + "ü", shell=True,\n        )'
    ]
    assert spans(INSECURE, "bandit/B301") == ["pickle.loads(cmd)"]
    assert spans(INSECURE, "bandit/B307") == ["eval(cmd)"]
    assert spans(INSECURE, "bandit/B105") == ['"hunter2hunter2"']


def test_the_tokens_of_a_finding_are_those_that_hold_its_bytes() -> None:
    data = INSECURE.encode()
    for size in (1, 3, 7):
        tokens = cut_into(data, size)
        for finding in find(Code(data, "python", True), ["bandit"], tokens=tokens).findings:
            assert finding.tokens is not None
            held = [t.index for t in tokens if t.start < finding.end and finding.start < t.end]
            assert list(range(*finding.tokens)) == held


def test_a_finding_without_bytes_takes_the_token_before_it() -> None:
    tokens = Tokens.of([1, 2, 3], [b"ab", b"cd", b""], {2: "<eos>"})
    assert Finding("a/b", "m", 4, 4, "a").at(tokens).tokens == (1, 2)
    assert Finding("a/b", "m", 0, 0, "a").at(tokens).tokens == (0, 1)
    assert Finding("a/b", "m", 1, 3, "a").at(tokens).tokens == (0, 2)


def test_every_prefix_is_closed_and_keeps_its_bytes() -> None:
    source = (
        INSECURE
        + "with open(p) as f, g(\n    a, [1, {2: 'x'}]) as h:\n    lambda q: f'{q!r:>{9}}'\n"
    )
    dropped = []
    for end in range(1, len(source) + 1, 2):
        closed = close_python(source[:end])
        assert closed is not None, source[:end][-40:]
        ast.parse(closed.text)
        assert closed.text.encode()[: closed.kept] == source[:end].encode()[: closed.kept]
        dropped.append(closed.dropped)
    assert np.mean(dropped) < 1.0 and max(dropped) < 40


def test_a_finding_holds_from_the_prefix_in_which_its_call_is_written() -> None:
    whole = "import os\nos.system(cmd)\n"
    at = whole.index("cmd)") + 3
    for end in range(at, len(whole) + 1):
        assert spans(whole[:end], "bandit/B605", False), whole[:end]
    assert not spans("import os\n", "bandit/B605", False)


def test_what_was_put_in_at_the_end_is_no_finding() -> None:
    data = b"x = 1\ntry:\n    y()\n"  # a handler is put in to close it
    found = find(Code(data, "python", False), ["bandit"])
    assert all(f.end <= len(data) for f in found.findings)
    assert any("closed" in n for n in found.notes)


def test_open_at_end_agrees_with_the_tokenizer() -> None:
    for text in ("f(a[1, {'x': 2", "g('''a\n'b", 'h("it\\"', "# (\nk(", "rb'x' + (", "a = f(b)"):
        quote, brackets = open_at_end(text)
        whole = (
            text + quote + "".join({"(": ")", "[": "]", "{": "}"}[b] for b in reversed(brackets))
        )
        list(tokenize.generate_tokens(io.StringIO(whole + "\n").readline))
    assert parses("a = 1") and not parses("a = ")


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("import os\nos.path.joinn(a)", {"imports/unknown-name"}),
        ("import os\nos.pat", set()),  # it may become os.path
        ("from json import load, dumpp\n", {"imports/unknown-name"}),
        ("import jsonn\n", {"imports/unknown-module"}),
        ("import xml.etree.ElementTre\nx", {"imports/unknown-module"}),
        ("import numpy as np\nnp.nothing_of_the_kind()\n", set()),
        ("import os\ndef f(os):\n    os.nothing()\n", set()),
        ("import mine\nfrom . import other\n", set()),
        ("import this\nimport antigravity\nimport tkinter.nothing\n", set()),
        ("import asyncio as a\na.run(x)\na.runn(x)\n", {"imports/unknown-name"}),
    ],
)
def test_imports_and_names_that_do_not_exist(code: str, wanted: set[str]) -> None:
    options = Options(project=frozenset({"mine"}))
    found = find(Code(code.encode(), "python", code.endswith("\n")), ["imports"], options)
    assert {f.rule for f in found.findings} == wanted


def test_only_the_standard_library_itself_is_ever_imported(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "raise SystemExit('run')\n"
    (tmp_path / "colorsys.py").write_text(evil)  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert standard("colorsys_nothing") is None
    assert standard("os.path") is not None and standard("antigravity") is None
    assert standard("numpy") is None and standard("json.__main__") is None


def test_secrets_by_shape_and_by_name() -> None:
    text = (
        b"key = 'AKIAIOSFODNN7EXAMPLE'\npassword = \"q8Zr-41xLmN0p\"\n"
        b"password = 'changeme'\ntoken = '${TOKEN}'\npassword = 'password'\n"
        b"url = 'postgres://app:s3cr3tpw@db.local/x'\n-----BEGIN RSA PRIVATE KEY-----\n"
    )
    found = find(Code(text, "python", True), ["secrets"]).findings
    assert [f.rule for f in found] == [
        "secrets/aws-access-key", "secrets/named", "secrets/url-password", "secrets/private-key",
    ]  # fmt: skip
    assert [text[f.start : f.end] for f in found][1] == b"q8Zr-41xLmN0p"
    assert all("q8Zr" not in f.message for f in found)
    assert bits(b"aaaa") == 0.0 and bits(b"abcd") == 2.0


def test_syntax_of_whole_and_of_unfinished_code() -> None:
    def rules(text: str, complete: bool, language: str = "python") -> list[tuple[str, int]]:
        found = find(Code(text.encode(), language, complete), ["syntax"]).findings
        return [(f.rule, f.start) for f in found]

    assert rules("def f(a, b", False) == [] and rules("def f(a, b", True) == [("syntax/error", 9)]
    assert rules("x = 1 +* 2\n", False) == [("syntax/not-viable", 7)]
    assert rules("int main() { return 0; }", True, "c") == []
    assert rules("int main() { return 0 }", True, "c")
    assert rules("int f() { return (1; ) }", True, "c")


def test_only_what_was_changed_is_judged() -> None:
    text = b"eval(a)\neval(b)\neval(c)\n"
    found = find(Code(text, "python", True, ((8, 16),)), ["bandit"]).findings
    assert [text[f.start : f.end] for f in found] == [b"eval(b)"]
