"""The commands of interventions: one document each, words for people, bad input named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenscope.cli import run

CLEAN = "for i in range(n): print("


def asked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == code
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def test_a_lens_is_fitted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(__file__).parents[1] / "explain" / "conftest.py"
    data = ("--data", str(tmp_path))
    made = asked(capsys, "lens", "fit", str(text), "--steps", "3", *data)
    assert Path(made["file"]).parent == tmp_path / "lenses" and made["held_out"] > 0
    assert set(asked(capsys, "lens", "show", CLEAN, *data)["lenses"]) == {"logit", "tuned"}


def test_prompts_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "import os\\nos."}\n{"prompt": ""}\n')
    ask = ("explain", "--prompts", str(path), "--method", "attention_mean")
    made = asked(capsys, *ask, code=1)
    assert made["n"] == 1 and made["failures"][0]["index"] == 1
    assert run(list(ask)) == 1
    assert "1 prompts" in capsys.readouterr().out
    for bad in ([*ask, "--at", "3"], ["explain"], ["explain", "--prompts", str(tmp_path)]):
        assert asked(capsys, *bad, code=2)["error"]["code"] == "bad_input"


def test_words_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["heads", "--draws", "1", "--length", "10", "--top", "3"]) == 0
    assert "repeat_" in capsys.readouterr().out
    assert run(["ablate", CLEAN, "--paths", "2", "--top", "3"]) == 0
    assert "own positions" in capsys.readouterr().out
    noise = ["patch", CLEAN, "--subject", " i", "--token", "i", "--contrast", "k", "--draws", "2"]
    assert run([*noise, "--part", "residual"]) == 0
    shown = capsys.readouterr()
    assert "effect" in shown.out and "cost:" in shown.err


def test_bad_input_names_the_field(capsys: pytest.CaptureFixture[str]) -> None:
    for field, bad in (
        ("corrupt", ["patch", CLEAN]),
        ("reference", ["ablate", CLEAN, "--reference", "absent"]),
        ("part", ["patch", CLEAN, "--corrupt", "for k in range(n): print(", "--part", "neurons"]),
    ):
        assert asked(capsys, *bad, code=2)["error"]["message"].startswith(field)
