"""``tokenscope explore`` as a program: its contract, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenscope.cli.commands import run

ARGUMENTS = ["--width", "4", "--depth", "2", "--horizon", "6"]


def test_the_contract(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["explore", "def add(a, b):", *ARGUMENTS, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "at most 16 branches" in err, "the cost is told first"
    branches, outcomes = found["branches"], found["outcomes"]
    for branch in branches:
        assert {"mass", "text", "at", "outcome"} <= set(branch)
    masses = [b["mass"] for b in branches]
    assert masses == sorted(masses, reverse=True)
    assert sum(masses) + found["unexplored"] == pytest.approx(1.0, abs=1e-6)
    assert sum(o["mass"] for o in outcomes) == pytest.approx(sum(masses), abs=1e-9)
    assert sum(len(o["branches"]) for o in outcomes) == len(branches)
    at = found["at"]
    assert min(b["at"] for b in branches) == at
    assert run(["explore", "def add(a, b):", "--at", str(at + 2), *ARGUMENTS, "--json"]) == 0
    assert json.loads(capsys.readouterr()[0])["at"] == at + 2


def test_a_saved_trace_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    assert run(["generate", "x = ", "-n", "4", "--save", str(path), "--json"]) == 0
    capsys.readouterr()
    assert run(["explore", "--trace", str(path), "--outcome", "regex:[0-9]", *ARGUMENTS]) == 0
    out, err = capsys.readouterr()
    assert "unexplored" in out
    assert "entropy of outcomes" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x", "--outcome", "taste"], "unknown name"), (["x", "--region", "3"], "--region"),
        (["x", "--trace", "y"], "not both"), ([], "PROMPT"), (["x", "--way", "best"], "way"),
        (["x", "--at", "999999"], "at"), (["x", "--memory", "1"], "would fit"),
    ],
)  # fmt: skip
def test_refusals(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert run(["explore", *arguments, "--json"]) == 2
    assert says in json.loads(capsys.readouterr()[0])["error"]["message"]
