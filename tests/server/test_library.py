"""The library over the wire: listed, fetched as a job, offered, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.library.conftest import made, offered  # noqa: F401 (fixtures)
from tokenscope.runs.model import load
from tokenscope.server.models import Models

if TYPE_CHECKING:
    from conftest import Served


@pytest.mark.usefixtures("offered")
def test_a_model_is_fetched_from_the_page(serve: Callable[..., Served], tmp_path: Path) -> None:
    def entries() -> dict[str, Any]:
        return {m["address"]: m for m in served.client.get("/api/library").json()["models"]}

    served = serve(models=Models(load, [None]))
    before = entries()
    assert list(before) == ["bundled", "tiny"]
    assert (before["tiny"]["kind"], before["tiny"]["get"]) == ("to fetch", "tiny")
    assert before["bundled"]["offer"] == "bundled" and before["bundled"]["fits"] is True
    assert served.client.post("/api/library/nothing/get").status_code == 422
    events = served.events("/api/library/tiny/get", {})
    assert events[-1] == {"type": "done", "finish": "done"}
    assert any(e["type"] == "progress" and "safetensors" in e["what"] for e in events)
    after = entries()
    assert list(after) == ["bundled", "tiny", "tiny:gguf"]
    assert served.events(f"/api/models/{after['tiny']['offer']}/load", {})[-1]["type"] == "done"
    assert entries()["tiny"]["digest"] == served.client.get("/api/model").json()["model_digest"]
    with_root = serve(models=Models(load, [None], root=tmp_path / "library"))
    found = [m["address"] for m in with_root.client.get("/api/library").json()["models"]]
    assert [Path(a).name for a in found] == [
        "bundled", "tiny", "tiny:gguf", "tiny-f32.gguf", "tiny-folder"
    ]  # fmt: skip
