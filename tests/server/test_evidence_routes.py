"""Findings and risk over the wire, on the scripted backend."""

from __future__ import annotations

from typing import Any

import pytest

CODE = "import os\n\n\ndef gone(path):\n    os.system(path)\n"


@pytest.fixture(scope="module")
def node(served: Any) -> str:
    events = served.events(
        f"/api/sessions/{served.session()}/score", {"text": CODE, "language": "python"}
    )
    found: str = events[-1]["node"]["id"]
    return found


def test_findings_are_tied_to_bytes_and_tokens(served: Any, node: str) -> None:
    answer = served.client.get(f"/api/nodes/{node}/findings")
    found = answer.json()
    assert answer.status_code == 200 and found["complete"] and found["language"] == "python"
    by_rule = {f["rule"]: f for f in found["findings"]}
    shell = by_rule["bandit/B605"]
    assert CODE[shell["start"] : shell["end"]] == "os.system(path)"
    assert shell["cwe"] == 78 and shell["severity"] == "high"
    first, last = shell["tokens"]
    assert last - first == len("os.system(path)")  # a token of this backend is a byte
    other = served.client.get(f"/api/nodes/{node}/findings", params={"language": "go"}).json()
    assert not any(f["source"] == "bandit" for f in other["findings"])


def test_risk_is_refused_for_a_finding_that_is_not_there(served: Any, node: str) -> None:
    ask = {"rule": "bandit/B999", "start": 3}
    answer = served.client.get(f"/api/nodes/{node}/risk", params=ask)
    assert answer.status_code == 422 and "B999" not in answer.text


def test_risk_of_a_finding(served: Any, node: str) -> None:
    ask = {"rule": "bandit/B605", "start": CODE.index("os.system"), "most": 8, "draws": 4}
    answer = served.client.get(f"/api/nodes/{node}/risk", params=ask)
    made = answer.json()
    assert answer.status_code == 200, made
    assert 0.0 <= made["lower"] <= made["upper"] <= 1.0 and made["paths"] <= 8


@pytest.mark.parametrize("bad", [{"most": 0}, {"draws": 999}, {"start": -1}, {}])
def test_bad_questions_are_422(served: Any, node: str, bad: dict[str, int]) -> None:
    ask = {"rule": "bandit/B605", "start": 3, **bad}
    if not bad:
        del ask["start"]
    assert served.client.get(f"/api/nodes/{node}/risk", params=ask).status_code == 422
