"""The wire's committed description is the wire's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tokenscope.server import schema

WEB = Path(__file__).parents[2] / "web"


def test_openapi_is_up_to_date() -> None:
    committed = (WEB / "openapi.json").read_text()
    assert committed == schema.text(), "run `make types` and commit web/openapi.json"


def test_types_are_up_to_date(tmp_path: Path) -> None:
    tool = WEB / "node_modules/.bin/openapi-typescript"
    if not tool.exists():
        pytest.skip("the page's packages are not installed")
    made = tmp_path / "schema.d.ts"
    command = [tool, "openapi.json", "--default-non-nullable=false", "-o", made]
    subprocess.run(command, cwd=WEB, check=True, capture_output=True)
    assert made.read_text() == (WEB / "src/api/schema.d.ts").read_text(), "run `make types`"


def test_responses_carry_no_defaults() -> None:
    """Every field of what the server sends is always there."""
    found = json.loads(schema.text())
    schemas = found["components"]["schemas"]
    requests = {name for name, s in schemas.items() if s.get("additionalProperties") is False}
    for name, shape in schemas.items():
        if name not in requests and "properties" in shape:
            assert set(shape.get("required", ())) == set(shape["properties"]), name


def test_every_event_is_described() -> None:
    found = json.loads(schema.text())["components"]["schemas"]
    assert {r["$ref"].rpartition("/")[2] for r in found["FeedEvent"]["anyOf"]} == {
        "HelloEvent", "StreamMessage", "ExplainMessage", "PatchMessage", "ExploreMessage",
        "ForkingMessage", "LedgerMessage", "AuditMessage",
    }  # fmt: skip
    event = found["StreamMessage"]["properties"]["event"]
    assert set(event["discriminator"]["mapping"]) == {
        "start", "step", "progress", "committed", "waiting", "end", "error",
    }  # fmt: skip
