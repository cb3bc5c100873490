"""The mass of names that do not exist: against the truth, enumerated to the end."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.backends.scripted import END, ScriptedBackend
from tokenscope.decode.engine import Engine
from tokenscope.evidence.check import Options
from tokenscope.runs.invented import invented, places

LETTERS = b"abx \n"


def of_letters(seed: int) -> Any:
    """A script over five bytes, each context with a distribution of its own."""

    def script(ids: Any) -> Any:
        logits = np.full(END + 1, -60.0, dtype=np.float32)
        chance = np.random.default_rng([seed, *[int(i) for i in ids[-3:]]])
        for letter in LETTERS:
            logits[letter] = chance.normal() * 2
        return logits

    return script


def truth(script: Any, given: bytes, known: set[bytes], longest: int) -> dict[str, float]:
    """Every path of ``longest`` letters, put together by what its name comes to."""
    sums = {"known": 0.0, "invented": 0.0, "other": 0.0}

    def go(path: bytes, mass: float) -> None:
        name = path.rstrip(b" \n")
        if path and name != path:
            sums["other" if not name else "known" if name in known else "invented"] += mass
        elif len(path) == longest:
            sums["invented"] += mass  # longer than any name
        else:
            logits = script(list(given + path)).astype(np.float64)
            p = np.exp(logits - logits.max())
            for letter in LETTERS:
                go(path + bytes([letter]), mass * float(p[letter] / p.sum()))

    go(b"", 1.0)
    return sums


def test_it_is_the_enumerated_truth() -> None:
    names = frozenset({"a", "ab", "abba", "bb"})
    options = Options(allow=names)
    held = 0
    for seed in range(40):
        script = of_letters(seed)
        engine = Engine(ScriptedBackend(script, context=1000))
        trace = ts.Model(engine.backend).score("import ab\n", language="python")
        (found,) = invented(engine, trace, options=options, most=60)
        wanted = truth(script, b"import ", {n.encode() for n in names}, 5)
        assert found.unexplored < 1e-3 and found.written == "ab" and found.at == 7
        assert found.known == pytest.approx(wanted["known"], abs=1e-3)
        assert found.other == pytest.approx(wanted["other"], abs=1e-3)
        assert found.lower - 1e-6 <= wanted["invented"] <= found.upper + 1e-6
        (few,) = invented(engine, trace, options=options, most=2)
        held += few.lower - 1e-6 <= wanted["invented"] <= few.upper + 1e-6
        assert few.upper - few.lower >= found.upper - found.lower
        parts = few.known + few.lower + few.other + few.unexplored
        assert parts == pytest.approx(1.0, abs=1e-6)
    assert held == 40  # bounds hold however little was looked at


def test_where_names_begin() -> None:
    code = b"import os\nfrom json import dumps\nfrom mine import x\ny = os.path\nz = xos.path\n"
    found = list(places(code, Options(project=frozenset({"mine"}))))
    assert [(code[p.start :].split()[0].decode(), p.what) for p in found] == [
        ("os", "module"), ("json", "module"), ("dumps", "name of a module"), ("mine", "module"),
        ("path", "attribute of a module"),
    ]  # fmt: skip
    assert "mine" in found[0].names and "dumps" in found[2].names and "path" in found[4].names


def test_a_real_model(bundled: ts.Model) -> None:
    code = "import os\nimport sys\n\nprint(os.path.join(sys.argv[1]))\n"
    found = bundled.invented(bundled.score(code, language="python"), most=6)
    assert [f.written for f in found] == ["os", "sys", "path", "argv"]
    for one in found:
        total = one.known + one.lower + one.other + one.unexplored
        assert total == pytest.approx(1.0, abs=1e-5) and 0 <= one.lower <= one.upper <= 1
    for one, module in ((found[2], os), (found[3], sys)):
        assert one.names and not any(hasattr(module, n) for n, _ in one.names)
    attribute = found[2]
    logp = bundled.score(code, language="python").column("logprob")
    # after "os." the model's own choice exists, so at least its mass is known
    assert attribute.known + attribute.unexplored >= math.exp(float(logp[attribute.at])) - 1e-4
