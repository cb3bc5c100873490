"""The library over the wire: listed, fetched as a job, offered, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.library.conftest import made, offered  # noqa: F401 (fixtures)
from tokenscope.control import Cancelled, Control
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


def test_a_model_is_planned_offered_in_another_form_and_loaded_beside_itself(
    serve: Callable[..., Served],
) -> None:
    """The page asks what fits, then holds one model in two number types; who made a branch is told
    by its number type, too."""
    served = serve(models=Models(load, [None]))
    plan = served.client.get("/api/plan?address=bundled&context=512").json()
    rows = {c["way"]: c for c in plan["choices"]}
    assert (plan["context"], plan["chosen"]) == (512, "float32")
    parts = ("base", "weights", "packed", "cache", "work")
    assert all(c["total"] == sum(c[p] for p in parts) for c in rows.values())
    assert rows["int8"]["dtype"] == "int8" and rows["disk"]["max_memory"] >= rows["disk"]["total"]
    tight = f"address=bundled&context=512&max_memory={rows['bfloat16']['total']}"
    assert served.client.get(f"/api/plan?{tight}").json()["chosen"] == "bfloat16"
    assert served.client.get("/api/plan?address=/etc/passwd").status_code == 404
    assert served.client.post("/api/models", json={"address": "/etc"}).status_code == 404

    wanted = {"address": "bundled", "dtype": "bfloat16"}
    held = served.client.post("/api/models", json=wanted).json()
    assert held == served.client.post("/api/models", json=wanted).json(), "offered once"
    assert (held["state"], held["dtype"], held["taken"]) == ("unloaded", "bfloat16", None)
    other = held["id"]
    told = [e for e in served.events("/api/models/bundled/load", {}) if e["type"] == "progress"]
    shares = [e["done"] for e in told]
    assert shares == sorted(shares) and shares[-1] == 100 and any(0 < s < 100 for s in shares)
    assert served.events(f"/api/models/{other}/load", {})[-1]["type"] == "done"
    states = {m["id"]: m for m in served.client.get("/api/models").json()}
    assert states["bundled"]["digest"] == states[other]["digest"]
    assert states["bundled"]["taken"] > states[other]["taken"] > 0
    body = {"prompt": "x = ", "model": other, "settings": {"max_new_tokens": 2}}
    node = served.events(f"/api/sessions/{served.session()}/generate", body)[-1]["node"]["id"]
    trace = served.house.store.trace(node)
    assert trace.origin.dtype == "bfloat16"
    assert served.house.models.maker(trace).info.dtype == "bfloat16"

    nodes = []
    for model in ("bundled", other):
        session, read = served.session(), {"text": "def f(x):\n    return x\n", "model": model}
        last = served.events(f"/api/sessions/{session}/score", read)[-1]
        nodes.append(last["node"]["id"])
    one, two = nodes
    moved = served.client.get(f"/api/nodes/{one}/drift/{two}?exact=true").json()
    assert moved["exact"] and 0 < moved["kl_mean"] < 0.01
    assert sum(c["flips"] for c in moved["categories"]) == len(moved["flips"])
    assert len(moved["differences"][0]) == len(moved["kl"]) and moved["kl"][0] is None
    rough = served.client.get(f"/api/nodes/{one}/drift/{two}").json()
    assert not rough["exact"] and rough["flips"] == moved["flips"]
    assert rough["kl_mean"] <= moved["kl_mean"] + 1e-6, "of tops: a lower bound"
    assert served.client.get(f"/api/nodes/{one}/drift/{node}").status_code == 409
    assert moved["over"] == "tokens" and moved["mean_apart"]["kl"] == moved["kl_mean"]
    assert [c["a"] for c in moved["cells"]] == [c["b"] for c in moved["cells"]]
    assert sum(c["flip"] is not None for c in moved["cells"]) == moved["places"]

    # what one model wrote is read by the other: the very ids, once
    told = served.client.post(f"/api/nodes/{node}/read", json={"model": "bundled"}).json()
    assert [e["type"] for _, m in served.view(run=told["run"]) if (e := m.get("event"))][
        -1
    ] == "end"
    twin = served.house.store.trace(told["node"])
    assert twin.ids.tolist() == trace.ids.tolist() and twin.origin.dtype == "float32"
    again = served.client.post(f"/api/nodes/{node}/read", json={"model": "bundled"}).json()
    assert again == {"node": told["node"], "run": None}
    beside = served.client.get(f"/api/nodes/{node}/drift/{told['node']}?exact=true").json()
    gaps = [d for d in beside["differences"][0] if d is not None]
    assert gaps and max(map(abs, gaps)) < 0.5 and any(gaps)


def test_loading_can_be_stopped(tmp_path: Path) -> None:
    """Between two tensors: nothing stays loaded, and it can be loaded afterwards."""
    models = Models(load, [None])
    told: list[int] = []
    control = Control(
        lambda done, total, what: told.append(done), lambda: max(told, default=0) > 30
    )
    with pytest.raises(Cancelled):
        models.load("bundled", control)
    (offer,) = models.all()
    assert (offer.state, offer.model, max(told) < 80) == ("unloaded", None, True)
    assert models.load("bundled").info.name == "bundled"
