"""Edits over the wire: kinds are told, shapes are the values, what is asked is done."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from tokenscope.server.edit_wire import kinds as wire_kinds
from tokenscope.server.edit_wire import shapes
from tokenscope.trace.edits import EDITS, Standing, read


def test_the_wire_knows_every_kind_and_field() -> None:
    found = {name: shape.model_json_schema() for name, shape in shapes().items()}
    kinds = {name: kind for name, kind in EDITS if issubclass(kind, Standing)}
    assert set(found) == set(kinds)
    for name, kind in kinds.items():
        held = {f.name: f for f in fields(kind)}
        assert set(found[name]["properties"]) == {"kind", *held}, name
        for field, shape in found[name]["properties"].items():
            if field in held and field not in found[name].get("required", ()):
                default: Any = held[field].default
                got = shape.get("default")
                assert got == (list(default) if isinstance(default, tuple) else default), field
    inside = {kind.kind for kind in kinds.values() if kind.__module__.endswith(".inside")}
    assert {k.kind for k in wire_kinds() if k.inside} == inside


def test_a_form_can_be_made_of_what_is_told(served: Any) -> None:
    told = served.client.get("/api/edits").json()["kinds"]
    assert {k["kind"] for k in told} == set(shapes())
    for kind in told:
        assert kind["title"] and kind["help"].endswith("."), kind["kind"]
        made: dict[str, Any] = {"kind": kind["kind"]}
        for field in kind["fields"]:
            value: Any = {
                "strings": ["a"], "ids": [1], "choice": (field["choices"] or [""])[0],
                "integer": 1, "number": 0.5, "text": "a", "code": "{}", "spans": [[0, 1]],
            }[field["type"]]  # fmt: skip
            value = {"vector": "0" * 64, "from_token": 0, "part": "mlp"}.get(field["name"], value)
            if field["required"]:
                made[field["name"]] = value
        if kind["kind"] == "attend":
            made["text"] = "a"
        if kind["kind"] == "ban_code":
            made["calls"] = ["eval"]
        assert read(made).kind == kind["kind"]


def test_edits_are_in_force_and_kept_with_the_branch(served: Any) -> None:
    ban = {"kind": "ban_text", "strings": ["e", "a"]}
    schema = {"kind": "json_schema", "schema": '{"type": "integer"}'}
    events = served.generate(edits=[ban, schema], max_new_tokens=6)
    node = events[-1]["node"]["id"]
    trace = served.client.get(f"/api/nodes/{node}").json()
    assert {"price", "logprob_masked"} <= set(trace["columns"])
    held = trace["origin"]["segments"][0]["edits"]
    assert [e["kind"] for e in held] == ["ban_text", "json_schema"]
    assert held[1]["at"] == trace["n_prompt"]
    made = b"".join(bytes([i]) for i in trace["ids"][trace["n_prompt"] :] if i < 256)
    assert made and (not made.strip() or json.loads(made + b"0") is not None)


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "ban_text", "strings": []}, {"kind": "nonsense"}, {"kind": "regex"},
        {"kind": "force", "at": 1, "ids": [1]}, {"kind": "ban", "ids": [1], "at": -1},
        {"kind": "regex", "pattern": "(secret"}, {"kind": "ban", "ids": [1], "more": 1},
        {"kind": "ban", "ids": [100_000]}, {"kind": "viable", "scope": "secret"},
        {"kind": "ban_code", "query": "(secret"}, {"kind": "ablate", "part": "mlp", "layer": 0},
        {"kind": "steer", "vector": "secret"}, {"kind": "bias", "ids": [1], "amount": 1e9},
    ],
)  # fmt: skip
def test_bad_edits_are_refused_and_not_echoed(served: Any, edit: dict[str, Any]) -> None:
    body = {"prompt": "x", "settings": {"edits": [edit]}}
    answer = served.client.post(f"/api/sessions/{served.session()}/generate", json=body)
    assert answer.status_code in (400, 409, 422), answer.text
    assert "secret" not in answer.text and answer.json()["message"]
