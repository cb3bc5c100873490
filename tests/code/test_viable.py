"""Viability: no valid prefix is refused, and what cannot go on is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.code.test_languages import BY_LANGUAGE, PIECE
from tests.code.viability_cases import DEAD
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.prefix_python import PythonPrefix, viable
from tokenscope.code.viable import judge, judge_alternatives, viable_columns


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "bench" / "viability.py"
    spec = importlib.util.spec_from_file_location("bench_viability", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_prefix_of_real_files_is_refused(bench):
    """A sample; ``bench/viability.py --files 300`` is the whole."""
    files = bench.real_files(12, 5_000, seed=7)
    asked, rejected, _, examples = bench.false_rejects(files)
    assert asked > 3_000
    assert rejected == 0, examples


def test_broken_mutants_are_flagged(bench):
    broken, flagged = bench.mutants(bench.real_files(25, 5_000, seed=3), 6, seed=1)
    assert broken > 40
    assert flagged / broken > 0.6


@pytest.mark.parametrize(
    "prefix",
    [
        "", "def f(", "if x:", "if x:\n  ", "x = 1e", "x = 0x", "a = 'abc", "a = f'{x", 'a = """\n',
        "for", "x !", "@", "@a\n", "try:\n  x\n", "try:\n  x\nexc", "self.return", "from . im",
        "x = 'a' 'b", "x = [1,\n", "lambda", "x = {'a':", "async", "x i", "return", "x = y \\\n",
        "\ufeffx", "# é", "class A:\n    def f(self):\n        pass\n    de", "print('a'\n",
        "x = '\\x4", "x = b'a", "match x:\n  ca", "if x:\n\ty\n", "a <", "a *", "x: in",
        "f(**a, *", "{1: 2, *", "x = 1i", "x = 1 if 2e", "def f():\n    # c\n", "def f():\n#",
        "f'{x:{w}", "f'\\N{DA", "f'\\N{DASH} {x", "f'{{", "f'{x!r", "f'{x =", "f'{a!=b}",
        "f\"{a['}']", "f'{{x y", "rf'\\N{x", "f'{x:>{w}.{p", "x = '\\\\", "'\\N{L",
        "b'\\u", "x = '''a''", "x = (1, # c", "if x: # c", "x = ('a'\n", "'a' f'{x}", "f'{lambda",
    ],
)  # fmt: skip
def test_these_can_go_on(prefix):
    assert viable(prefix) is True


@pytest.mark.parametrize(
    "prefix",
    [
        "x y", "a b c", "x = )", "x = [1,2)", "!", "  x", "'a\nb", "x = = 3", "def f(:", "if x y:",
        "x = 5 5\n", "for x on y", "while x:\n  a b\n", "\0", "else ", "class A(:\n",
        "import x y z", "f'{x y", "f'{x y:", "f'{x} {y z", "f'{}", "'a' b'", "print 'a", 'x """a',
        "x = #", "def f():\nreturn 1\n\n\ndef g():\n    pass\n",
    ],
)  # fmt: skip
def test_these_cannot(prefix):
    assert viable(prefix) is False


@pytest.mark.parametrize("case", DEAD)
def test_a_dead_text_is_refused_at_the_very_character(case):
    """Some continuation parses up to the mark; the next character ends that, and what follows it
    changes nothing: the oracle must not come back to "viable" either."""
    alive, rest = case.split("|>")
    for end in range(len(alive) + 1):
        assert viable(alive[:end]) is True, alive[:end]
    text = alive + rest + "\nx = 1\n"
    for end in range(len(alive) + 1, len(text) + 1):
        assert viable(text[:end]) is False, text[:end]


def test_bytes_that_are_no_text_and_characters_cut_in_two():
    assert viable(b"x = '\xc3") is True
    assert viable(b"x = '\xff") is False
    assert viable("(" * 50) is True
    assert viable("x = " + "(" * 3000) in (None, False, True)  # deep, and no crash


def test_a_growing_prefix_answers_like_a_whole_one():
    data = BY_LANGUAGE["python"].read_bytes()
    prefix, grown = PythonPrefix(), b""
    for n, piece in enumerate(PIECE.finditer(data)):
        if n % 9 == 0:
            for candidate in (b" )", b"x", b" =", b"\n", b"'"):
                assert prefix.viable(candidate) == viable(grown + candidate), grown[-80:]
        prefix.append(piece.group())
        grown += piece.group()


@pytest.mark.parametrize("language", [n for n in LANGUAGES.names() if n != "python"])
def test_no_prefix_of_a_sample_is_called_not_viable(language):
    data = BY_LANGUAGE[language].read_bytes()
    ends = [m.end() for m in PIECE.finditer(data)]
    picked = np.random.default_rng(5).choice(ends, 14, replace=False).tolist()
    verdicts = [judge(data[:end], language) for end in picked]
    assert "not" not in verdicts
    assert verdicts.count("viable") >= 4
    assert judge(data, language) == "viable"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("javascript", b"f(1]"), ("java", b"class A { int f() ) }"), ("json", b"[1, 2}"),
        ("go", b"package x\nfunc f() { return )"), ("c", b"int main() { return 0; } }"),
    ],
)  # fmt: skip
def test_a_bracket_that_closes_nothing_cannot_be_mended(language, text):
    assert judge(text, language) == "not"


def test_text_and_markdown_are_never_judged():
    assert judge(b"x = )", "text") == "unknown"
    assert judge(b"```python\nx = )", "markdown") == "unknown"


def test_mass_and_entropy_among_the_viable():
    pieces = [b"x", b" =", b" 1"]
    candidates = [[], [b" =", b" y", b" +"], [b" 1", b" )", None]]
    judged = judge_alternatives(pieces, candidates, "python", first=1)
    assert judged.row(1) == ["viable", "not", "viable"]
    assert judged.row(2) == ["viable", "not", "unknown"]
    logprobs = np.log(
        np.array([[np.nan] * 3, [0.5, 0.2, 0.25], [0.6, 0.3, 0.05]]), dtype=np.float32
    )
    mass, entropy = viable_columns(judged, logprobs)
    assert np.isnan(mass.values[0])
    assert mass.values[1:] == pytest.approx([0.75, 0.6], abs=1e-6)
    p = np.array([0.5, 0.25]) / 0.75
    assert entropy.values[1] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert entropy.values[2] == pytest.approx(0.0, abs=1e-6)
    assert mass.quality == "bound"
    assert sys.version_info >= (3, 11)
