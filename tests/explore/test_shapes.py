"""Which texts are the same outcome, and which are not: pairs written by hand."""

from __future__ import annotations

import pytest

from tokenscope.errors import InputError, UnknownName
from tokenscope.explore import python_shape, tree_shape
from tokenscope.explore.keys import Ended, key_of

SAME = {
    "locals": (
        "def f(a):\n    x = a + 1\n    return x\n",
        "def f(b):\n    y = b + 1\n    return y\n",
    ),
    "formatting": ("x = {'a':1,\n  'b':2}\n", 'x = {"a": 1, "b": 2}\n'),
    "comments": ("def f():\n    # why\n    return 1  # so\n", "def f():\n    return 1\n"),
    "docstring": ('def f():\n    """Says."""\n    return 1\n', "def f():\n    return 1\n"),
    "loop": (
        "def f(v):\n    for a in v: print(a)\n",
        "def f(v):\n    for b in v:\n        print(b)\n",
    ),
    "comprehension": ("r = [a * 2 for a in xs if a]\n", "r = [b * 2 for b in xs if b]\n"),
    "closure": (
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g\n",
        "def f():\n    k = 0\n    def h():\n        nonlocal k\n        k += 1\n    return h\n",
    ),
    "import": (
        "def f():\n    import os\n    return os.sep\n",
        "def f():\n    import os as o\n    return o.sep\n",
    ),
    "exception": (
        "def f():\n    try: g()\n    except E as e: log(e)\n",
        "def f():\n    try:\n        g()\n    except E as err:\n        log(err)\n",
    ),
    "f-string": ("def f(a):\n    return f'{a}!'\n", "def f(z):\n    return f'{z}!'\n"),
    "walrus": (
        "def f(v):\n    return [y for x in v if (y := x)]\n",
        "def f(v):\n    return [q for p in v if (q := p)]\n",
    ),
    "lambda": ("k = lambda a: a + 1\n", "k = lambda b: b + 1\n"),
    "match": (
        "def f(v):\n    match v:\n        case [a, *b]: return b\n",
        "def f(v):\n    match v:\n        case [c, *d]: return d\n",
    ),
    "cut off": ("def f(a):\n    x = 1  # one\n    retu", "def f(b):\n    y = 1\n    retu"),
    "cut blanks": ("foo(1,\n  2, ba", "foo(1, 2,  ba"),
}
OTHER = {
    "value": ("x = 1\n", "x = 2\n"),
    "global name": ("x = 1\n", "y = 1\n"),
    "function name": ("def f(): pass\n", "def g(): pass\n"),
    "keyword-only": ("def f(*, a): return a\n", "def f(*, b): return b\n"),
    "by keyword": ("def f(a): return a\nf(a=1)\n", "def f(b): return b\nf(b=1)\n"),
    "other local": ("def f(a, b):\n    return a\n", "def f(a, b):\n    return b\n"),
    "merged": ("def f():\n    a = 1\n    b = 2\n", "def f():\n    a = 1\n    a = 2\n"),
    "attribute": ("class A:\n    x = 1\n", "class A:\n    y = 1\n"),
    "global": ("def f():\n    global n\n    n = 1\n", "def f():\n    global k\n    k = 1\n"),
    "peeking": (
        "def f():\n    a = 1\n    return locals()\n",
        "def f():\n    b = 1\n    return locals()\n",
    ),
    "callee": ("def f(a): return g(a)\n", "def f(a): return h(a)\n"),
    "method": ("def f(a): return a.x()\n", "def f(a): return a.y()\n"),
    "block": ("if a:\n  b()\nc(", "if a:\n  b()\n  c("),
    "cut name": ("x = fo", "x = ba"),
    "indent of the cut": (
        "def f():\n    if a:\n        b()\n        c",
        "def f():\n    if a:\n        b()\n    c",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_python(name: str) -> None:
    one, two = SAME[name]
    assert python_shape.shape(one) == python_shape.shape(two)


@pytest.mark.parametrize("name", OTHER)
def test_other_python(name: str) -> None:
    one, two = OTHER[name]
    assert python_shape.shape(one) != python_shape.shape(two)


TREES = [
    (
        "javascript",
        "function f(a) { const x = a + 1; return x; }",
        "function f(b) {\n  // one more\n  const y = b + 1;\n  return y;\n}",
        True,
    ),
    ("javascript", "const f = (a) => g(a)", "const f = (a) => h(a)", False),
    ("javascript", "function f(a) { return a.x; }", "function f(b) { return b.y; }", False),
    (
        "javascript",
        "function f() { let a = 1; let b = 2; return a }",
        "function f() { let a = 1; let b = 2; return b }",
        False,
    ),
    (
        "java",
        "class A { int f(int a) { int x = a; return x; } }",
        "class A { int f(int b) { int y = b; /* so */ return y; } }",
        True,
    ),
    (
        "java",
        "class A { int f(int a) { return a; } }",
        "class A { int g(int a) { return a; } }",
        False,
    ),
    (
        "c",
        "int f(int a) { int x = a * 2; return x; }",
        "int f(int b)\n{ int y = b * 2; return y; }",
        True,
    ),
    ("c", "int f(int a) { return a; }", "int g(int a) { return a; }", False),
    ("c", "int f(int a) { return a + 1; }", "int f(int a) { return a - 1; }", False),
    (
        "go",
        "package m\nfunc f(a int) int {\nx := a // so\nreturn x }",
        "package m\nfunc f(b int) int {\n\ty := b\n\treturn y\n}",
        True,
    ),
    ("rust", "fn f(a: i32) -> i32 { let x = a; x }", "fn f(b: i32) -> i32 { let y = b; y }", True),
    ("json", '{"a": 1}', '{ "a":1 }', True),
    ("json", '{"a": 1}', '{"b": 1}', False),
]


@pytest.mark.parametrize(("language", "one", "two", "same"), TREES)
def test_shapes_of_other_languages(language: str, one: str, two: str, same: bool) -> None:
    shapes = [tree_shape.shape(t.encode(), language) for t in (one, two)]
    assert (shapes[0] == shapes[1]) is same


def ended(text: str, language: str = "python", start: int = 0) -> Ended:
    return Ended(text.encode(), start, language, "length")


def test_keys_by_name() -> None:
    assert key_of("bytes")(ended("ab", start=1)) == "b"
    assert key_of("regex:shell=(True|False)")(ended("run(x, shell=True)")) == "True"
    assert key_of("regex:x+")(ended("yxx", start=2)) == "x"
    assert key_of("regex:z")(ended("yxx")) == "no match"
    query = key_of("query:(call function: (_) @f)")
    assert query(ended("a()\nb.c( 1 )\n", start=3)) == "b.c"
    assert query(ended("x = 1\n")) == "no match"
    assert key_of(lambda e: len(e.text))(ended("abc")) == "3"
    with pytest.raises(UnknownName, match="bytes"):
        key_of("tastes")
    with pytest.raises(InputError, match="query"):
        key_of("query:(nothing_of_this")(ended("x"))
    with pytest.raises(InputError, match="language"):
        query(ended("x", "text"))


def test_a_pattern_that_never_ends_is_given_up() -> None:
    with pytest.raises(InputError, match="took more"):
        key_of("regex:(a|aa)+$")(ended("a" * 60 + "b"))
