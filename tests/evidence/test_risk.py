"""Risk mass against truths that are written down in full, and on a real model."""

from __future__ import annotations

import math

import pytest

from tests.explore.small import engine, every_text, letters
from tokenscope.backends.scripted import END
from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.evidence.risk import Path, weigh
from tokenscope.explore.intervals import wilson
from tokenscope.runs import risk as risks
from tokenscope.runs.generate import generate
from tokenscope.runs.model import Model
from tokenscope.runs.settings import Settings
from tokenscope.trace.findings import Finding

HORIZON = 4


@CHECKS.register("letters-of-tests")
def _ab(code: Code, options: Options) -> Found:
    """The rule of these tests: the letters ab, side by side."""
    at = [i for i in range(len(code.data) - 1) if code.data[i : i + 2] == b"ab"]
    return Found([Finding("tests/ab", "ab", i, i + 2, "letters-of-tests") for i in at])


def carries(text: tuple[int, ...], prompt: bytes) -> bool:
    data = prompt + bytes(t for t in text if t < 256)
    return any(i + 2 > len(prompt) for i in range(len(data) - 1) if data[i : i + 2] == b"ab")


def test_bounds_hold_the_truth_in_a_hundred_small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be written is walked by hand; each case explores a part of it."""
    monkeypatch.setattr(risks, "PLACES", 0)
    inside = sampled_inside = looked = 0
    widths, seed = [], 0
    while looked < 100:
        seed += 1
        heat = (0.4, 1.0, 2.0)[seed % 3]
        model = engine("abc", heat)
        prompt = (
            b"c"
            + bytes([97 + seed % 3, 97 + seed // 3 % 3, 97 + seed // 9 % 3])
            + b"c" * (seed % 5)
        )
        ids = list(model.vocabulary.encode(prompt.decode()).ids)
        settings = Settings(max_new_tokens=HORIZON, temperature=1.0, seed=seed, attention="none")
        trace = generate(model, prompt=prompt.decode(), language="text", settings=settings).result()
        hits = [f for f in _ab(Code(trace.tokens.data, "text"), Options()).findings
                if f.end > len(prompt)]  # fmt: skip
        if not hits:
            continue
        looked += 1
        truth = dict(every_text(letters("abc", heat), ids, HORIZON))
        want = math.fsum(p for text, p in truth.items() if carries(text, prompt))
        made = risks.risk(
            model, trace, hits[0], at=trace.n_prompt, horizon=HORIZON, width=3, most=14, draws=40
        ).risk  # fmt: skip
        inside += made.risk.lower - 1e-6 <= want <= made.risk.upper + 1e-6
        widths.append(made.unexplored)
        assert made.sampled is not None or made.unexplored <= risks.ENOUGH
        low, high = (made.sampled.lower, made.sampled.upper) if made.sampled else (0.0, 1.0)
        sampled_inside += low <= want <= high
    assert inside == 100  # bounds of enumerated mass are no estimates
    assert sampled_inside >= 93
    assert 0.05 < max(widths) < 1.0


def test_all_of_it_enumerated_is_the_truth_itself() -> None:
    model = engine("ab", 1.5)
    settings = Settings(max_new_tokens=4, attention="none")
    for prompt in ("b", "ba", "bbaab"):
        trace = generate(model, prompt=prompt, language="text", settings=settings).result()
        ids = list(model.vocabulary.encode(prompt).ids)
        truth = dict(every_text(letters("ab", 1.5), ids, 4))
        want = math.fsum(p for t, p in truth.items() if carries(t, prompt.encode()))
        hits = [f for f in _ab(Code(trace.tokens.data, "text"), Options()).findings
                if f.end > len(prompt)]  # fmt: skip
        if not hits:
            continue
        made = risks.risk(
            model, trace, hits[0], at=trace.n_prompt, horizon=4, width=8, most=200
        ).risk  # fmt: skip
        assert made.risk.lower == pytest.approx(want, abs=1e-5)
        assert made.risk.upper == pytest.approx(want, abs=1e-5)
        assert made.sampled is None
        best = max(p for t, p in truth.items())
        free = max(p for t, p in truth.items() if not carries(t, prompt.encode()))
        assert made.price == pytest.approx(math.log(best / free), abs=1e-4)
        assert made.cost.lower == pytest.approx(-math.log(1 - want), abs=1e-4)


def p(ids: str, *q: float, carries: bool, viable: bool = True) -> Path:
    logs = tuple(math.log(x) for x in q)
    return Path(tuple(ids.encode()), logs, math.exp(sum(logs)), carries, ids, viable)


def test_the_deciding_token_and_what_its_ban_leaves() -> None:
    """x, then y (0.8, always with the finding) or z (0.2, free)."""
    paths = [p("xy", 1.0, 0.8, carries=True), p("xz", 1.0, 0.2, carries=False)]
    made = weigh(paths, paths[0])
    assert made.risk.lower == pytest.approx(0.8) and made.risk.upper == pytest.approx(0.8)
    (decided,) = made.decided
    assert decided.at == 1 and decided.after.lower == pytest.approx(1.0)
    assert decided.banned is not None and decided.banned.upper == pytest.approx(0.0, abs=1e-9)
    assert decided.ban_cost == pytest.approx(-math.log(0.2))
    assert made.free is not None and made.free.text == "xz"
    assert made.price == pytest.approx(math.log(4)) and made.unexplored < 1e-9


def test_what_was_not_enumerated_may_be_either() -> None:
    paths = [p("ab", 0.5, 0.5, carries=True), p("ac", 0.5, 0.2, carries=False)]
    made = weigh(paths, paths[0])
    assert (made.risk.lower, made.risk.upper) == (pytest.approx(0.25), pytest.approx(0.9))
    (decided,) = made.decided
    assert (decided.before.lower, decided.before.upper) == (
        pytest.approx(0.5), pytest.approx(0.8),
    )  # fmt: skip
    assert (decided.banned.lower, decided.banned.upper) == (0.0, pytest.approx(0.6))  # type: ignore[union-attr]
    less = weigh([paths[0]], paths[0])  # one path alone: before it anything may have been likely
    assert less.decided == () and less.risk.upper == 1.0


def test_a_broken_way_out_is_none() -> None:
    paths = [p("a", 0.5, carries=True), p("b", 0.4, carries=False, viable=False),
             p("c", 0.1, carries=False)]  # fmt: skip
    made = weigh(paths, paths[0])
    assert made.free is not None and made.free.text == "c"
    assert made.risk.upper == pytest.approx(0.5)


def test_wilson_of_the_room_below_is_the_one_that_gates_use() -> None:
    from tokenscope.evidence.bounds import wilson as bound

    for hits, n in ((0, 5), (3, 9), (9, 9)):
        assert (bound(hits, n).lower, bound(hits, n).upper) == wilson(hits, n)


def test_a_real_finding_of_the_bundled_model(bundled: Model) -> None:
    trace = bundled.generate(
        "import hashlib\n\ndef digest(data):\n    return hashlib.", max_new_tokens=10,
        temperature=0.8, seed=4,
    )  # fmt: skip
    md5 = bundled.fork(trace, trace.n_prompt, "md5(", max_new_tokens=6)
    found = [f for f in md5.findings if f.rule == "python/weak-hash"]
    assert found and found[0].tokens is not None
    made = bundled.risk(md5, "python/weak-hash", at=trace.n_prompt, most=16, draws=8)
    best = made.risk.best
    assert 0.0 <= best.lower <= best.upper <= 1.0
    held = made.to_json()
    assert held["safe"] is None or "md5" not in held["safe"]["text"].split("(")[0]
    assert held["enumerated"][0] <= held["enumerated"][1] and END not in (held["at"],)
