"""Several models on one server: a budget, who made what, and going on after a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.errors import BusyError, CapacityError, ModelError, ModelNotLoaded
from tokenscope.runs.model import Model
from tokenscope.server.models import Models, below

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
    assert served.client.get(f"/api/nodes/{node['id']}/columns?names=entropy").status_code == 200
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
