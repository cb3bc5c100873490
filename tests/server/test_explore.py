"""Explorations as jobs: the growing tree on the one feed, stop, resume, keep a branch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.explore.small import letters
from tests.server.conftest import Served

ASKED = {"width": 3, "depth": 3, "horizon": 6, "outcome": "bytes"}


@pytest.fixture
def small(serve: Callable[..., Served]) -> Served:
    return serve(letters())


def node_of(served: Served, **settings: Any) -> str:
    node: str = served.generate("ab", **settings)[-1]["node"]["id"]
    return node


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == kind]


def test_the_tree_grows_on_the_feed(small: Served) -> None:
    node = node_of(small)
    events = small.events(f"/api/nodes/{node}/explore", ASKED)
    kinds = [e["type"] for e in events]
    assert kinds[0] == "start" and kinds[-1] == "done"
    branches, last = of_type(events, "branch"), of_type(events, "state")[-1]
    assert [b["name"] for b in branches] == list(range(len(branches)))
    assert len(branches) <= events[0]["branches"] == 27
    assert len(branches) == len(last["masses"]) == len(last["enumerated_to"])
    assert sum(last["masses"]) + last["unexplored"] == pytest.approx(1.0, abs=1e-6)
    assert sum(o["mass"] for o in last["outcomes"]) == pytest.approx(sum(last["masses"]))
    assert sorted(b for o in last["outcomes"] for b in o["branches"]) == list(range(len(branches)))
    assert last["finished"] and sum(last["parts"].values()) == pytest.approx(last["unexplored"])
    for state in of_type(events, "state"):
        assert sum(state["masses"]) + state["unexplored"] == pytest.approx(1.0, abs=1e-6)
    decisions = of_type(events, "decisions")[0]
    assert decisions["semantic"] == pytest.approx(last["entropy"])
    info = small.client.get(f"/api/runs/{small.client.get('/api/runs').json()[-1]['run']}").json()
    assert info["kind"] == "explore" and not info["running"]


def test_a_branch_is_kept_by_a_fork_with_its_ids(small: Served) -> None:
    node = node_of(small)
    events = small.events(f"/api/nodes/{node}/explore", ASKED)
    branch = of_type(events, "branch")[3]
    body = {"at": events[0]["at"], "token_ids": branch["ids"], "settings": {"max_new_tokens": 0}}
    kept = small.events(f"/api/nodes/{node}/fork", body)[-1]["node"]
    made = small.client.get(f"/api/nodes/{kept['id']}").json()
    assert made["ids"][events[0]["at"] :] == branch["ids"]
    assert made["node"]["parent"] == node


def test_it_goes_on_and_a_late_reader_gets_all(small: Served) -> None:
    node = node_of(small)
    path = f"/api/nodes/{node}/explore"
    run = small.client.post(path, json={**ASKED, "most": 4}).json()["run"]
    assert small.idle()
    events = [m["event"] for _, m in small.view(run=run) if "event" in m]
    assert len(of_type(events, "branch")) == 4
    assert not of_type(events, "state")[-1]["finished"]
    more = small.events(path, {**ASKED, "resume": run})
    assert of_type(more, "branch")[:4] == of_type(events, "branch")
    whole = small.events(path, ASKED)
    last = [of_type(e, "state")[-1] for e in (more, whole)]
    assert sorted(last[0]["masses"]) == pytest.approx(sorted(last[1]["masses"]))
    other = node_of(small)
    assert small.client.post(f"/api/nodes/{other}/explore", json={"resume": run}).status_code == 404


def test_what_fell_out_of_the_log_is_made_again(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(small)
    monkeypatch.setattr("tokenscope.server.feed.LOG_BYTES", 3000)
    run = small.client.post(f"/api/nodes/{node}/explore", json=ASKED).json()["run"]
    assert small.idle()
    events = [m["event"] for _, m in small.view(run=run) if "event" in m]
    branches = of_type(events, "branch")
    assert [b["name"] for b in branches] == list(range(len(branches)))
    assert len(branches) == len(of_type(events, "state")[-1]["masses"])


def test_it_is_stopped_within_a_step(
    serve: Callable[..., Served], slowly: Callable[[float], Any]
) -> None:  # fmt: skip
    served = serve(slowly(0.005))
    node = node_of(served, max_new_tokens=2)
    body = {**ASKED, "horizon": 400, "depth": 4, "width": 4}
    run = served.client.post(f"/api/nodes/{node}/explore", json=body).json()["run"]
    time.sleep(0.3)
    began = time.monotonic()
    assert served.client.post(f"/api/runs/{run}/cancel").status_code == 204
    assert served.idle(20)
    assert time.monotonic() - began < 10
    events = [m["event"] for _, m in served.view(run=run) if "event" in m]
    assert events[-1] == {"type": "done", "finish": "cancelled"}


def test_draws(small: Served) -> None:
    node = node_of(small)
    body = {**ASKED, "way": "sampled", "draws": 40, "temperature": 0.8}
    events = small.events(f"/api/nodes/{node}/explore", body)
    assert events[0]["masses_of"] == "sampler"
    last = of_type(events, "state")[-1]
    assert sum(last["draws"]) == 40 == sum(o["draws"] for o in last["outcomes"])
    assert all(o["low"] <= o["mass"] <= o["high"] for o in last["outcomes"])


def test_masses_of_what_is_drawn(small: Served) -> None:
    node = node_of(small)
    edit = {"kind": "ban", "ids": [97]}
    body = {**ASKED, "masses_of": "drawn", "edits": [edit], "memory": 10**9}
    events = small.events(f"/api/nodes/{node}/explore", body)
    assert events[0]["masses_of"] == "edits" and events[0]["allowed"] == 10**9
    last = of_type(events, "state")[-1]
    assert sum(last["masses"]) + last["unexplored"] == pytest.approx(1.0, abs=1e-6)
    assert 0 < last["bytes"] <= events[0]["bytes"] and last["ended"] is None
    assert not any(97 in b["ids"] for b in of_type(events, "branch"))
    hot = small.events(f"/api/nodes/{node}/explore", {**body, "temperature": 0.5})
    assert hot[0]["masses_of"] == "sampler"
    small_memory = small.client.post(f"/api/nodes/{node}/explore", json={**ASKED, "memory": 10})
    assert small_memory.status_code == 413 and small_memory.json()["fits"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"at": 9999}, {"at": 0}, {"outcome": "taste"}, {"outcome": "regex:("}, {"width": 0},
        {"region": [5, 2]}, {"way": "best"}, {"temperature": 1.0}, {"most": 10**9}, {"x": 1},
        {"edits": [{"kind": "ban", "ids": [97]}]},
    ],
)  # fmt: skip
def test_refusals(small: Served, body: dict[str, Any]) -> None:
    node = node_of(small)
    answer = small.client.post(f"/api/nodes/{node}/explore", json=body)
    assert answer.status_code == 422, answer.text
