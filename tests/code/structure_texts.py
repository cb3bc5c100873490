"""What the properties of alignment are tried on: code, broken code and bytes, cut anywhere."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from tokenscope.code.languages import LANGUAGES
from tokenscope.trace.tokens import Tokens

EXAMPLES = int(os.environ.get("TOKENSCOPE_EXAMPLES", "300"))

ATOMS = [
    b"def f(x):", b"return", b"if", b"else", b"for", b"while", b"class A", b"{", b"}", b"(", b")",
    b"[", b"]", b"<div>", b"</div>", b"</", b"<", b">", b";", b":", b",", b".", b"=", b"==", b"=>",
    b"->", b"x", b"foo", b"42", b"1.5e", b'"', b"'", b"`", b'"""', b"'''", b"$", b"${", b"#{", b"#",
    b"//", b"/*", b"*/", b"--", b"\\", b"\n", b"\n    ", b"\n\t", b"\r\n", b" ", b"  ", b"\t",
    b"\f", b"\x00", b"\xff", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80", b"\xed\xa0\x80",
    b"<<EOF\n", b"EOF", b"<?php ", b"@", b"!", b"|", b"&", b"SELECT * FROM t", b"fn main() ",
    b"let x", b"end",
    "é".encode(), "变量".encode(), "😀".encode(), "\u202e".encode(), "\u2066".encode(),
    "\u200b".encode(), "\ufeff".encode(), b'{"a": 1}', b".a { b: c }", b"case", b"match", b"async",
]  # fmt: skip

LANGUAGE_NAMES = (*LANGUAGES.names(), "markdown", "text")


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A few atoms and a few random bytes in any order."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.integers(0, 40))
    rng = random.Random(seed)
    parts = [
        rng.choice(ATOMS) if rng.random() < 0.93 else rng.randbytes(rng.randrange(1, 4))
        for _ in range(size)
    ]
    return b"".join(parts)


@st.composite
def cut(draw: st.DrawFn) -> tuple[str, Tokens]:
    """A language, and a text cut into tokens anywhere: inside characters, and into nothing."""
    data = draw(texts())
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    count = rng.randrange(0, max(2, len(data)))
    cuts = sorted(rng.randrange(0, len(data) + 1) for _ in range(count))
    bounds = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    return draw(st.sampled_from(LANGUAGE_NAMES)), Tokens.of(range(len(pieces)), pieces)


def column(rng: random.Random, n: int) -> np.ndarray:
    """float32 (n,) with gaps."""
    values = [rng.choice([rng.gauss(2, 3), rng.random(), float("nan")]) for _ in range(n)]
    return np.asarray(values, dtype=np.float32)
