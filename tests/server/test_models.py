"""Several models on one server: a budget, who made what, and going on after a crash."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.gguf_file import write
from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.errors import BusyError, CapacityError, ModelError, ModelNotLoaded
from tokenscope.runs.model import Model, load
from tokenscope.server import wire
from tokenscope.server.models import Models, below
from tokenscope.trace import Origin

if TYPE_CHECKING:
    from conftest import Served

MIB = 1 << 20


def offered(folder: Path, budget: int | None = None, script: Any = hashed) -> Models:
    """Three models of 1, 2 and 3 MiB, and one that cannot be loaded."""

    def load(address: str | None) -> Model:
        assert address is not None
        name = Path(address).name
        if name == "broken":
            raise ModelError(name, "is no model")
        backend = ScriptedBackend(script, context=20_000)
        backend.info = replace(backend.info, name=name, model_digest=f"digest {name}")
        return Model(backend)

    for name, size in {"small": 1, "middle": 2, "large": 3, "broken": 1}.items():
        made = folder / name
        made.mkdir(parents=True)
        (made / "config.json").write_text("{}")
        (made / "model.safetensors").write_bytes(bytes(size * MIB))
    return Models(load, below(folder), budget)


def states(served: Served) -> dict[str, str]:
    return {m["id"]: m["state"] for m in served.client.get("/api/models").json()}


def done(served: Served, name: str) -> dict[str, Any]:
    """Load a model over the wire; the last event."""
    return served.events(f"/api/models/{name}/load", {})[-1]


def test_a_budget_unloads_what_was_not_used_for_longest(tmp_path: Path) -> None:
    models = offered(tmp_path, 5 * MIB)
    first, second = models.load("small"), models.load("middle")
    with models.lease(first):
        pass  # used after the other
    models.load("large")
    assert {o.id: o.state for o in models.all()} == {
        "broken": "unloaded", "large": "loaded", "middle": "unloaded", "small": "loaded",
    }  # fmt: skip
    with (
        models.lease(models.get("large")), models.lease(models.get("small")),
        pytest.raises(BusyError),
    ):  # fmt: skip
        models.load("middle")
    with pytest.raises(ModelNotLoaded), models.lease(second):
        pass
    small = offered(tmp_path / "other", 2 * MIB)
    with pytest.raises(CapacityError, match="budget"):
        small.load("large")


def test_models_over_the_wire(serve: Callable[..., Served], tmp_path: Path) -> None:
    models = offered(tmp_path / "models")
    models.load("small")
    served = serve(models=models)
    assert states(served) == {
        "broken": "unloaded", "large": "unloaded", "middle": "unloaded", "small": "loaded",
    }  # fmt: skip
    assert served.client.get("/api/model").json()["name"] == "small"
    refused = served.client.get("/api/model?id=large")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_not_loaded")
    assert done(served, "large")["type"] == "done"
    failed = done(served, "broken")
    assert (failed["type"], failed["code"]) == ("error", "bad_model")
    assert states(served)["broken"] == "failed"

    session = served.session()
    body = {"prompt": "ab", "model": "large", "settings": {"max_new_tokens": 2}}
    node = served.events(f"/api/sessions/{session}/generate", body)[-1]["node"]
    assert (node["model"], node["model_digest"]) == ("large", "digest large")
    change = {"at": 2, "token_id": 65, "settings": {"max_new_tokens": 2}}
    fork = f"/api/nodes/{node['id']}/fork"
    assert served.events(fork, change)[-1]["node"]["model"] == "large"

    assert served.client.post("/api/models/large/unload").status_code == 204
    assert served.client.get(f"/api/nodes/{node['id']}").json()["node"]["model"] == "large"
    assert served.client.post("/api/models/small/unload").status_code == 204, "none is loaded now"
    for rest in (
        "",
        "/columns?names=entropy",
        "/alternatives",
        "/attention/3",
        "/attended/1",
        "/structure",
        "/rollup",
        "/between?by=file",
        "/findings",
        "/viability",
        "/viability/3",
    ):
        read = served.client.get(f"/api/nodes/{node['id']}{rest}")
        assert read.status_code == 200, (rest, read.text)
    assert served.client.get("/api/explain").json()["layers"] == []
    assert "entropy" in [c["name"] for c in served.client.get("/api/columns").json()]
    answer = served.client.post(fork, json=change)
    assert (answer.status_code, answer.json()["code"]) == (409, "model_not_loaded")
    assert "large" in answer.json()["message"]
    assert served.client.post("/api/models/nothing/load").status_code == 404
    assert served.idle()


def test_a_model_in_use_is_not_unloaded(
    serve: Callable[..., Served], slowly: Any, tmp_path: Path
) -> None:
    models = offered(tmp_path / "models", script=slowly(0.01))
    models.load("small")
    served = serve(models=models)
    job = served.client.post(
        f"/api/sessions/{served.session()}/generate",
        json={"prompt": "ab", "settings": {"max_new_tokens": 5000}},
    ).json()
    assert served.client.post("/api/models/small/unload").status_code == 503
    served.client.post(f"/api/runs/{job['run']}/cancel")
    assert served.idle()
    assert served.client.post("/api/models/small/unload").status_code == 204
    refused = served.client.post(f"/api/sessions/{job['session']}/generate", json={"prompt": "a"})
    assert (refused.status_code, refused.json()["code"]) == (409, "model_not_loaded")


def test_an_interrupted_run_goes_on(serve: Callable[..., Served], tmp_path: Path) -> None:
    """The folder as a crash leaves it: copied while the run was going on."""
    served = serve()
    body = {"prompt": "ab", "settings": {"max_new_tokens": 400, "alternatives": 3, "seed": 5}}
    kept = tmp_path / "copy"
    session = served.session()
    for n, event in enumerate(served.stream(f"/api/sessions/{session}/generate", body)):
        if n == 30:
            shutil.copytree(served.house.store.path, kept)
        node = event.get("node", {}).get("id")
    whole = served.client.get(f"/api/nodes/{node}").json()["ids"]
    again = serve(data=kept)
    (row,) = again.client.get(f"/api/sessions/{session}").json()["nodes"]
    assert row["status"] == "interrupted"
    have = row["summary"]["tokens"]
    assert 2 < have < len(whole)
    *_, last = again.events(f"/api/nodes/{node}/continue", {})
    assert (last["node"]["parent"], last["node"]["at"]) == (node, have)
    ids = again.client.get(f"/api/nodes/{last['node']['id']}").json()["ids"]
    assert ids == whole, "to the length that was asked for then"
    assert again.client.post(f"/api/nodes/{last['node']['id']}/continue").status_code == 422


def test_an_interrupted_branch_and_an_interrupted_score_go_on(
    serve: Callable[..., Served], slowly: Any, tmp_path: Path
) -> None:
    """A branch keeps what it was asked for: to its length, new text not counted; a score begins
    again, from what was measured."""
    served = serve()
    session = served.session()
    root = {"prompt": "ab", "settings": {"max_new_tokens": 40, "alternatives": 3}}
    *_, end = served.events(f"/api/sessions/{session}/generate", root)
    parent = end["node"]["id"]
    body = {"at": 6, "text": "xyz", "settings": {"max_new_tokens": 400, "alternatives": 3}}
    kept = tmp_path / "copy"
    for n, event in enumerate(served.stream(f"/api/nodes/{parent}/fork", body)):
        if n == 30:
            shutil.copytree(served.house.store.path, kept)
        node = event.get("node", {}).get("id")
    whole = served.client.get(f"/api/nodes/{node}").json()["ids"]
    again = serve(data=kept)
    rows = again.client.get(f"/api/sessions/{session}").json()["nodes"]
    row = next(r for r in rows if r["status"] == "interrupted")
    assert (row["id"], row["parent"], row["at"]) == (node, parent, 6)
    assert 9 < row["summary"]["tokens"] < len(whole)
    *_, last = again.events(f"/api/nodes/{node}/continue", {})
    assert again.client.get(f"/api/nodes/{last['node']['id']}").json()["ids"] == whole

    store = again.house.store
    for asked, want in (
        (wire.ForkRequest(**body), ("fork", len(whole))),
        (wire.ScoreRequest(text="def f(x):\n"), ("score", len("def f(x):\n"))),
    ):
        forked = want[0] == "fork"
        writing = store.begin(
            session, Origin(), parent=parent if forked else None, at=6 if forked else 0,
            form="plain" if forked else "score", request=asked.model_dump(),
        )  # fmt: skip
        writing.finish(None, "error")  # before its first token
        *_, last = again.events(f"/api/nodes/{writing.node.id}/continue", {})
        ids = again.client.get(f"/api/nodes/{last['node']['id']}").json()["ids"]
        assert (last["finish"] != "error", len(ids)) == (True, want[1])


def test_the_budget_counts_what_a_loaded_model_takes(tmp_path: Path) -> None:
    """Packed weights and a wider number type make a model larger than its files."""
    models = offered(tmp_path, 5 * MIB)
    plain = models._load

    def wide(address: str | None) -> Model:
        model = plain(address)
        size = models.offer(Path(str(address)).name).size or 0
        model.backend.info = replace(model.info, weight_bytes=2 * size)
        return model

    models._load = wide
    models.load("small")  # takes 2
    models.load("middle")  # 2 on the disk, takes 4: the other has to go
    assert {o.id for o in models.all() if o.state == "loaded"} == {"middle"}
    with models.lease(models.get("middle")), pytest.raises(BusyError):
        models.load("small")  # 1 on the disk, but 2 in memory, as is known by now
    models.load("large")  # takes 6: alone, and all the same
    assert {o.id for o in models.all() if o.state == "loaded"} == {"large"}


def test_start_token_and_error_bars_are_told(serve: Callable[..., Served]) -> None:
    model = Model(ScriptedBackend(hashed))
    model.backend.info = replace(
        model.info, start_token="<s>", dtype="bfloat16", errors={"entropy": 0.11, "rank": math.inf}
    )
    found = serve(models=Models.of_one(model)).client.get("/api/model").json()
    assert (found["start_token"], found["errors"]) == ("<s>", {"entropy": 0.11})


def test_a_worker_that_dies_costs_one_error_and_nothing_of_the_session(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    """Killed in the middle of a run: what came is kept, readable, and gone on with once the file
    is loaded again."""
    pytest.importorskip("xllamacpp", reason="the extra [gguf] is not installed")
    file = write(tmp_path / "bundled.gguf")
    models = Models(load, [str(file)])
    (offer,) = models.all()
    models.load(offer.id)
    served = serve(models=models)
    session = served.session()
    body = {"prompt": "def f(x):", "settings": {"max_new_tokens": 400, "alternatives": 3}}
    events = []
    for event in served.stream(f"/api/sessions/{session}/generate", body):
        events.append(event)
        if event["type"] == "step" and sum(e["type"] == "step" for e in events) == 12:
            os.kill(models.get().backend.worker.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert [e["type"] for e in events].count("error") == 1 and events[-1]["type"] == "error"
    assert "ended in the middle" in events[-1]["message"]
    (row,) = served.client.get(f"/api/sessions/{session}").json()["nodes"]
    came = sum(len(e["ids"]) for e in events if e["type"] == "step")
    assert (row["status"], row["summary"]["tokens"]) == ("interrupted", came)
    (state,) = served.client.get("/api/models").json()
    assert state["state"] == "failed" and "load it again" in state["error"]
    assert served.client.get(f"/api/nodes/{row['id']}/columns?names=entropy").status_code == 200
    refused = served.client.post(f"/api/nodes/{row['id']}/continue")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_not_loaded")
    assert done(served, offer.id)["type"] == "done"
    last = served.events(f"/api/nodes/{row['id']}/continue", {})[-1]
    assert last["type"] == "end" and last["node"]["summary"]["tokens"] > came
