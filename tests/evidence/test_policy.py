"""Gates: which end of which interval is held against the limit, and when that tells nothing."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenscope.errors import InputError, UnknownName
from tokenscope.evidence.bounds import Bound, exact, quantile, wilson
from tokenscope.evidence.figures import Figures
from tokenscope.evidence.policy import Gate, policy_of, read_policy

TEXT = """
checks = ["syntax", "bandit"]
on_error = "skip"
[sampling]
samples = 20
temperature = 0.7
[imports]
allow = ["numpy"]
[gates]
"CWE-78".risk_upper = "<= 0.02"
parse_rate.lower = ">= 98 %"
surprisal.statement.p99 = "<= 9"
drift.kl.max = "<= 0.1"
"""


def test_a_policy_is_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(TEXT)
    policy = read_policy(file)
    assert policy.checks == ("syntax", "bandit") and policy.allow == ("numpy",)
    assert policy.sampling == {"samples": 20, "temperature": 0.7}
    assert [str(g) for g in policy.gates] == [
        "CWE-78.risk.upper <= 0.02", "parse_rate.lower >= 0.98",
        "surprisal.statement.p99.upper <= 9", "drift.kl.max.upper <= 0.1",
    ]  # fmt: skip


def test_gates_can_be_lines_too() -> None:
    lines = ['"CWE-78".risk_upper <= 0.02', "parse_rate.lower >= 0.98"]
    held = policy_of({"gates": lines}).gates
    table = {"CWE-78": {"risk_upper": 0.02}, "parse_rate": {"lower": 0.98}}
    assert held == policy_of({"gates": table}).gates


@pytest.mark.parametrize(
    "held",
    [
        {"gates": {"parse_rate": {"upper": ">= 0.9"}}},  # the wrong end: that would pass on luck
        {"gates": {"CWE-78": {"risk_lower": "<= 0.1"}}},
        {"gates": {"parse_rate": 0.9}},  # no direction
        {"gates": {"parse_rate": {"lower": "good"}}},
        {"gates": ["parse_rate is fine"]},
        {"gates": 3},
        {"gate": {}},
        {"checks": ["nothing"]},
        {"sampling": {"sample": 3}},
        {"sampling": {"samples": "3"}},
        {"on_error": "cry"},
        {"imports": {"deny": []}},
    ],
)
def test_what_makes_no_sense_is_refused(held: dict[str, object]) -> None:
    with pytest.raises(InputError):
        policy_of(held)


def test_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("checks = [\n\nrisk <= 3")
    with pytest.raises(InputError, match="line 3"):
        read_policy(file)


def test_a_gate_holds_the_right_end_against_the_limit() -> None:
    upper, lower = Gate("a.risk", "<=", 0.1), Gate("a", ">=", 0.9)
    for gate, bound, state, margin in (
        (upper, Bound(0.02, 0.0, 0.09, 50, ""), "passed", 0.01),
        (upper, Bound(0.05, 0.02, 0.12, 50, ""), "undecided", -0.02),
        (upper, Bound(0.3, 0.2, 0.4, 50, ""), "failed", -0.3),
        (upper, exact(0.1, 1), "passed", 0.0),
        (lower, Bound(0.95, 0.92, 0.99, 50, ""), "passed", 0.02),
        (lower, Bound(0.99, 0.6, 1.0, 3, ""), "undecided", -0.3),
        (lower, Bound(0.5, 0.4, 0.6, 50, ""), "failed", -0.5),
        (upper, Bound(float("nan"), -inf, inf, 0, ""), "undecided", -inf),
    ):
        verdict = gate.judge(bound)
        assert verdict.state == state and verdict.margin == pytest.approx(margin)
    assert "too few" in upper.judge(wilson(0, 3)).why


def test_nothing_seen_in_few_samples_is_undecided_and_in_many_passed() -> None:
    gate = Gate("CWE-78.risk", "<=", 0.02)
    assert gate.judge(wilson(0, 100)).state == "undecided"
    assert gate.judge(wilson(0, 189)).state == "passed"  # z^2 / (n + z^2) <= 0.02 from 188.24 on
    assert gate.judge(wilson(0, 188)).state == "undecided"


def test_wilson_solves_its_own_equation() -> None:
    """The ends are where |p - hits/n| = z sqrt(p (1 - p) / n), found by bisection here."""
    z = 1.959963984540054

    def solve(hits: int, n: int, low: float, high: float) -> float:
        sign = 1.0 if high > hits / n else -1.0
        for _ in range(200):
            p = (low + high) / 2
            beyond = sign * (p - hits / n) > z * np.sqrt(p * (1 - p) / n)
            if beyond == (sign > 0):
                high = p
            else:
                low = p
        return (low + high) / 2

    for hits, n in ((0, 7), (1, 9), (5, 10), (17, 20), (20, 20), (3, 1000)):
        bound = wilson(hits, n)
        if hits:
            assert bound.lower == pytest.approx(solve(hits, n, 0.0, hits / n), abs=1e-9)
        if hits < n:
            assert bound.upper == pytest.approx(solve(hits, n, hits / n, 1.0), abs=1e-9)


@pytest.mark.parametrize(("q", "n"), [(0.5, 40), (0.9, 60), (0.99, 800)])
def test_quantile_intervals_cover_the_truth(q: float, n: int) -> None:
    random = np.random.default_rng(0)
    truth = -np.log(1 - q)  # of the exponential distribution
    bounds = [quantile(random.exponential(size=n), q) for _ in range(600)]
    covered = np.mean([b.lower <= truth <= b.upper for b in bounds])
    assert covered >= 0.935
    assert np.mean([b.upper < 10 * truth for b in bounds]) > 0.9  # and not by being infinite


def test_a_quantile_says_when_it_cannot_tell() -> None:
    assert quantile(np.arange(100.0), 0.99).upper == inf
    assert quantile(np.arange(400.0), 0.99).upper < inf
    wide = quantile(np.arange(1600.0), 0.5)  # its ranks by the normal approximation: 800 ± 39.2
    assert (wide.lower, wide.upper) == (760.0, 839.0)
    assert quantile([], 0.5).n == 0


def test_figures_are_shares_of_samples_not_of_findings() -> None:
    figures = Figures()
    finding = {"rule": "bandit/B602", "source": "bandit", "cwe": 78, "severity": "high"}
    broken = {"rule": "syntax/error", "source": "syntax", "cwe": 0, "severity": "low"}

    def sample(*found: dict[str, object]) -> dict[str, object]:
        return {"parses": broken not in found, "findings": list(found), "n_prompt": 1,
                "tokens": {"surprisal": [None, 1.0, 3.0]}, "statements": [2.0]}  # fmt: skip

    samples = [sample(finding, finding), sample(), sample(broken), sample()]
    figures.add({"error": None, "samples": samples})
    assert figures.figure("CWE-78.risk").value == 0.25
    assert figures.figure("bandit/B602.count").value == 2.0
    assert figures.figure("any.risk").value == 0.25 and figures.figure("high.risk").value == 0.25
    assert figures.figure("parse_rate").value == 0.75
    assert figures.figure("surprisal.token.max").value == 3.0
    assert figures.figure("surprisal.token.mean").n == 8
    with pytest.raises(UnknownName, match="parse_rate"):
        figures.figure("beauty")
    with pytest.raises(UnknownName):
        figures.figure("drift.kl.max")  # there was no baseline


def test_a_mass_is_that_of_the_worst_line() -> None:
    finding = {"rule": "bandit/B602", "source": "bandit", "cwe": 78, "severity": "high"}
    empty = {"parses": True, "n_prompt": 0, "tokens": {"surprisal": []}, "statements": [],
             "findings": [], "notes": []}  # fmt: skip
    spans = [(0.0, 0.015), (0.005, 0.01)]
    found = [
        {**empty, "findings": [finding], "risks": [{"lower": a, "upper": b, "findings": [0]}]}
        for a, b in spans
    ]

    def judged(gate: str, *samples: Any) -> str:
        figures = Figures()
        figures.add({"error": None, "samples": list(samples)})
        return policy_of({"gates": [gate], "risk": {}}).judge(figures.figure)[0].state

    assert judged("CWE-78.mass_upper <= 0.02", *found) == "passed"
    assert judged("CWE-78.mass_upper <= 0.01", *found) == "undecided"
    assert judged("CWE-78.mass_upper <= 0.004", *found) == "failed"
    # nothing found: a hundred samples leave room for 3.7 %, three hundred for 1.3 %
    assert judged("CWE-78.mass_upper <= 0.02", *[empty] * 100) == "undecided"
    assert judged("CWE-78.mass_upper <= 0.02", *[empty] * 300) == "passed"
    # what could not be measured may be anything
    blind = {**empty, "findings": [finding], "notes": ["risk of bandit/B602: not enumerated: x"]}
    assert judged("CWE-78.mass_upper <= 0.02", *found, blind) == "undecided"


def test_a_gate_that_nothing_could_fail_is_refused() -> None:
    Figures.check(["bandit.count", "go/tls-off.risk", "any.risk", "high.count", "CWE-78.mass"])
    for name in ("bandt.count", "CWE78.risk", ".risk", "parse", "drift.kl.max"):
        with pytest.raises(UnknownName):
            Figures.check([name])
    with pytest.raises(InputError, match="needs a"):
        Figures.check(["any.mass"], risk=False)
