"""``tokenscope structure`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tokenscope.cli import run

CODE = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "add.py").write_text(CODE)
    return tmp_path / "add.py"


def test_a_file_as_json(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["structure", str(source), "--by", "statement", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kinds = [row["kind"] for row in said["rows"]]
    assert kinds == ["function_definition", "return_statement", "expression_statement"]
    assert all(row["count"] > 0 for row in said["rows"])
    assert said["files"][0]["language"] == "python"


def test_a_file_as_a_table(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["structure", str(source), "--by", "function"]) == 0
    assert "add" in capsys.readouterr().out


def test_a_folder_into_parquet(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out.parquet"
    (source.parent / "b.js").write_text("let x = 1;\n")
    assert run(["structure", str(source.parent), "-o", str(out)]) == 0
    frame = pd.read_parquet(out)
    assert set(frame["path"]) == {"add.py", "b.js"}
    assert {"mean", "count", "q50"} <= set(frame.columns)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-file.py"],
        ["{file}", "--by", "sentence"],
        ["{file}", "--column", "nothing"],
        ["{file}", "--language", "cobol"],
        ["{folder}"],
    ],
)
def test_bad_input_is_named_and_exits_with_2(
    source: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    filled = [a.format(file=source, folder=source.parent) for a in arguments]
    assert run(["structure", *filled, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"]
