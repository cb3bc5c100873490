"""docs/why.md holds the definitions as the code has them, and the command line works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tokenscope as ts
from tokenscope.cli import run
from tokenscope.explain.definitions import DEFINITIONS, MEASURED
from tokenscope.explain.reference import GROUPS, markdown

PAGE = Path(__file__).parents[2] / "docs/why.md"


def test_the_page_holds_the_definitions() -> None:
    made = PAGE.read_text().split("<!-- definitions -->\n")[1].split("\n<!-- end -->")[0]
    assert made.strip() == markdown().strip(), "run: python -m tokenscope.explain.reference"
    assert {d.group for _, d in DEFINITIONS} == set(GROUPS)


def test_what_is_said_of_the_default_is_what_was_measured() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if "| occlusion |" in line]
    assert [row[4].strip() for row in rows] == re.findall(r"\d+ % \[[^]]*\]", MEASURED)
    assert MEASURED in DEFINITIONS.get("faithfulness_quantile").limits


def test_the_python_of_the_page_runs() -> None:
    source = PAGE.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(source, "docs/why.md", "exec"), {})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ts.load().score("import os\nos.system(x, shell=True)").save(tmp_path / "a.trace")
    ask = ["explain", str(kept), "--at", "5"]
    assert run([*ask, "--contrast", "#7", "--also", "lens", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["at"] == 5 and found["contrast_id"] == 7 and len(found["tokens"]) == 5
    assert found["definitions"]["logit_lens"]["source"] and found["tables"]["lens"]["rows"]
    assert run(ask) == 0
    assert "nats" in capsys.readouterr().out
    assert run(["explain", str(kept), "--at", "0", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad_input"
    assert run(["explain", str(tmp_path / "none"), "--at", "1"]) == 2
