"""Python that cannot be mended, and where: ``|>`` stands before the first character that kills it.

Up to there some continuation parses; with the next character none does. By hand, against the
grammar of Python 3.11.
"""

from __future__ import annotations

DEAD = (
    # a body that is missing, or what must follow a body
    "def f():\n|>return 1", "def f(): # c\n\n|>x = 1", "if x:\n|>y = 1\n", "class A:\n|>x",
    "for i in x:\n    # only a comment\n|>y", "while x:\n|>break", "try:\n|>x\nexcept E:\n  y",
    "with a:\n|>b", "if x:\n    if y:\n    |>z", "class A:\n    def f(self):\n    |>x",
    "try:\n  x\nfinally:\n|>y", "match x:\n  case 1:\n  |>y", "match x:\n    |>y",
    "try:\n  x\n|>y", "try:\n  x\ne|>lse:\n", "@a\n|>x = 1", "class A: |>@f",
    "if x: y\n    |>z", "x = 1\n  |>y", "  |>x", "if x:\n    y\n  |>z",
    # assignment to what is no target
    "1 =|> x", "f() =|> 1", "a + b =|> c", "-x =|> 1", "not x =|> 1", "'a' =|> x", "None =|> 1",
    "(a, f()) =|> x", "[a, 1] =|> x", "x, f() =|> 1", "{} =|> x", "a if b else c =|> d",
    "lambda: x =|> 1", "(x := 1) =|> 2", "a.b() +|>= 1", "x, y +|>= 1", "(yield) =|> 1",
    "f'{x}' =|> 1", "a < b =|> c", "x = 1 =|> y", "for 1 |>in x", "for f() |>in x",
    "with a as f()|>:\n", "del f()|>\n", "del 1|>;", "x = (1 =|> 2)", "f(a.b =|> 1)", "f(1 =|> 2)",
    "(a.b |>:= 1)", "x :|>= 1", "x, y|>: int", "import a as b|>.c", "await x =|> 1",
    # words that do not fit
    "print |>x", "print |>\"x\"", "exec |>'x'", "if x =|> 1", "while x =|> 1:", "x = y |>z",
    "return return|> x", "a not |>b", "raise x|>, y", "async |>x", "x = def|> f", "else|> x",
    "from . import *|>, a", "from a import b,|>\n", "import |>*", "from a |>b", "elif|> x:",
    "for x in|>:", "for x |>on", "if |>:", "while|>:", "lambda x |>y", "lambda |>(a): a",
    "@a |>b\n", "if x:\n    y\nelse |>x:", "except|> E:", "match x, y =|> 1", "x |>? y",
    "a < |>> b",
    # brackets, arguments, displays
    "x = {1, 2|>:", "x = {1: 2, 3|>}", "x = {1:|>}", "x = {**a, b|>}", "x[|>]", "f(|>,)",
    "x = [1, 2|>)", "x = |>)", "f(a |>b)", "f(**a, *|> b)", "f(**a, b|>)", "f(a=1, b|>)",
    "f(a=1, |>2)", "f(a for a in b|>, c)", "f(c, a |>for a in b)", "x[1:2:3|>:4]", "[a, b |>c]",
    "def f(a=1, b|>)", "def f(a, *|>)", "def f(*, |>**k)", "def f(**k, |>a)", "def f(|>1)",
    "def f(a|>.b)", "lambda a=1, b|>: a", "def f() |>x", "def f() -> |>:",
    "class A(x |>for x in y):",
    # literals
    "x = 'a' |>b'c'", "f('a' |>b'c')", "x = '\\x|>zz'", "x = '\\N{no such name|>}'", "x = b'|>é'",
    "x = f'{a |>b}'", "x = f'{|>}'", "x = f'{a +|>}'", "x = 08|>\n", "x = 1_|>\n", "x = 0x|>g",
    "x = 'abc|>\ny'", "x = 1 |>2", "x = 1.a|>b", "x = 5 |>'a'",
)  # fmt: skip
