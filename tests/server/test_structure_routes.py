"""The structure routes over the scripted backend."""

from __future__ import annotations

from typing import Any

import pytest

CODE = "def f(a, b):\n    if a:\n        return a + b\n    return b\n\nclass C:\n    x = 1\n"


@pytest.fixture(scope="module")
def node(served: Any) -> str:
    """A scored text."""
    events = served.events(
        f"/api/sessions/{served.session()}/score", {"text": CODE, "language": "python"}
    )
    assert events[-1]["type"] == "end"
    found: str = events[-1]["node"]["id"]
    return found


def test_what_can_be_asked(served: Any) -> None:
    info = served.client.get("/api/structure").json()
    assert {"python", "rust", "markdown", "text"} <= {x["name"] for x in info["languages"]}
    assert info["levels"][0] == "kind"
    assert info["level_bits"]["statement"] == 2


def test_regions_and_cells_of_a_branch(served: Any, node: str) -> None:
    found = served.client.get(f"/api/nodes/{node}/structure").json()
    assert found["language"] == "python"
    assert found["end"][0] == len(CODE)
    assert {"f", "C"} <= set(found["names"].values())
    assert len(found["cell_start"]) == len(found["cell_token"]) + 1
    assert found["cell_start"][-1] == len(CODE)
    again = served.client.get(f"/api/nodes/{node}/structure", params={"language": "text"}).json()
    assert again["kinds"] == ["file"]


def test_a_rollup_by_region_and_by_kind(served: Any, node: str) -> None:
    ask = {"column": "entropy", "by": "statement"}
    by_region = served.client.get(f"/api/nodes/{node}/rollup", params=ask).json()
    assert by_region["kind"].count("return_statement") == 2
    assert all(v is None or v >= 0 for v in by_region["mean"])
    by_kind = served.client.get(
        f"/api/nodes/{node}/rollup", params={**ask, "group": "kind", "part": "all"}
    ).json()
    assert len(set(by_kind["kind"])) == len(by_kind["kind"])
    assert by_kind["region"] == [-1] * len(by_kind["kind"])


def test_attention_between_statements(served: Any, node: str) -> None:
    answer = served.client.get(f"/api/nodes/{node}/between", params={"by": "statement"})
    found = answer.json()
    assert answer.status_code == 200, found
    assert len(found["values"]) == len(found["label"]) + 1
    rows = [sum(v for v in row if v is not None) for row in found["values"]]
    assert all(0 <= r <= 1 + 1e-5 for r in rows)


def test_viability_of_one_token_and_of_all(served: Any) -> None:
    ended = served.generate("def f(x):\n    return", max_new_tokens=4)[-1]
    node = ended["node"]["id"]
    prompt = ended["node"]["summary"]["prompt_tokens"]
    row = served.client.get(f"/api/nodes/{node}/viability/{prompt}").json()
    assert row["language"] == "python"
    assert set(row["verdicts"]) <= {"viable", "not", "unknown"}
    assert row["verdicts"]
    whole = served.client.get(f"/api/nodes/{node}/viability").json()
    assert whole["first"] == prompt
    assert len(whole["viable_mass"]) == ended["node"]["summary"]["tokens"]
    assert whole["viable_mass"][0] is None
    assert all(0 <= z <= 1 + 1e-6 for z in whole["viable_mass"][prompt:] if z is not None)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("structure?language=cobol", "language"), ("rollup?by=sentence", "by"),
        ("rollup?column=nothing", "column"), ("between?layer=x", "layer"),
        ("viability/100000", "t"), ("rollup?top=0", "top"),
    ],
)  # fmt: skip
def test_bad_input_names_the_field(served: Any, node: str, path: str, field: str) -> None:
    answer = served.client.get(f"/api/nodes/{node}/{path}")
    assert answer.status_code == 422
    assert answer.json()["field"].endswith(field)


def test_structure_follows_a_running_branch(serve: Any, slowly: Any) -> None:
    served = serve(script=slowly(0.01))
    seen: list[int] = []
    body = {"prompt": "x = ", "settings": {"max_new_tokens": 60}}
    for event in served.stream(f"/api/sessions/{served.session()}/generate", body):
        if event["type"] == "start":
            node = event["node"]["id"]
        if event["type"] == "step" and event["start"] % 10 == 0:
            found = served.client.get(f"/api/nodes/{node}/structure").json()
            seen.append(found["tokens"])
            assert found["cost_ms"] >= 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
