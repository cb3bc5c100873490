"""Compare, forking tokens, ledgers and steering vectors over the wire."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.explore.test_forking import script
from tests.server.conftest import Served
from tokenscope.runs.model import Model
from tokenscope.server.models import Models

TEXT = "def area(r):\n    return 3.14 * r * r\n"


@pytest.fixture
def forks(serve: Callable[..., Served]) -> Served:
    """A model whose only decision that matters is the first letter after ``go:``."""
    return serve(script)


def node_of(served: Served, prompt: str, **settings: Any) -> str:
    node: str = served.generate(prompt, **settings)[-1]["node"]["id"]
    return node


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == kind]


LAST = {"outcome": r"regex:[xy]", "width": 3, "check": 2}


# --- forking tokens ---------------------------------------------------------------------------
def test_forking_tokens_come_place_by_place(forks: Served) -> None:
    node = node_of(forks, "go:")
    events = forks.events(f"/api/nodes/{node}/forking", LAST)
    start, done = events[0], of_type(events, "columns")[0]
    assert (start["tokens"], start["gated"], start["skipped"], start["checked"]) == (4, 2, 2, 2)
    assert events[-1] == {"type": "done", "finish": "done"}
    places = {p["place"]["at"] - start["at"]: p["place"] for p in of_type(events, "place")}
    assert set(places) == {0, 1, 2, 3}
    assert done["fork_tv"] == pytest.approx([0.3, 0.0, 0.0, 0.0], abs=1e-6)
    assert done["fork_gate"] == [1.0, 1.0, 0.5, 0.5]
    first = places[0]
    # a and c lead to x, b to y: I(A;O) is the entropy of (0.7, 0.3), the rest is cosmetic
    semantic = -0.7 * math.log(0.7) - 0.3 * math.log(0.3)
    whole = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert first["semantic"] == pytest.approx(semantic, abs=1e-6) == done["semantic"][0]
    assert first["cosmetic"] == pytest.approx(whole - semantic, abs=1e-6) == done["cosmetic"][0]
    assert done["semantic"][1] == pytest.approx(0.0, abs=1e-6)
    assert done["cosmetic"][1] == pytest.approx(
        -0.6 * math.log(0.6) - 0.4 * math.log(0.4), abs=1e-6
    )
    masses = [(o["mass"], o["own"]) for o in first["outcomes"]]
    assert masses == [(pytest.approx(0.7), True), (pytest.approx(0.3), False)]
    led = {chr(a["id"]): (a["outcome"], a["text"]) for a in first["alternatives"]}
    assert led == {"a": (0, "a x"), "b": (1, "b y"), "c": (0, "c x")}
    assert done["checked"]["n"] == 2 and done["checked"]["missed"] == 0
    assert done["skipped_share"] == 0.5


def test_the_split_at_one_token_is_the_same(forks: Served) -> None:
    node = node_of(forks, "go:")
    events = forks.events(f"/api/nodes/{node}/forking", LAST)
    first = min((p["place"] for p in of_type(events, "place")), key=lambda p: p["at"])
    path = f"/api/nodes/{node}/alternatives/{first['at']}/outcomes"
    asked = {"outcome": LAST["outcome"], "width": 3}
    assert forks.client.get(path, params=asked).json() == first
    # read for one token only, no alternative has come to its x or y yet
    short = forks.client.get(path, params={**asked, "horizon": 1}).json()
    assert len(short["outcomes"]) == 1 and short["fork_tv"] == 0
    for bad in ({"width": 1}, {"outcome": "taste"}, {"horizon": 0}, {"outcome": "regex:("}):
        assert forks.client.get(path, params={**asked, **bad}).status_code == 422
    for t in ("0", "99", "x"):
        path = f"/api/nodes/{node}/alternatives/{t}/outcomes"
        assert forks.client.get(path, params=asked).status_code == 422
    gone = forks.client.get("/api/nodes/none/alternatives/3/outcomes")
    assert gone.status_code == 404


def test_places_that_fell_out_of_the_log_are_told_again(
    forks: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(forks, "go:")
    monkeypatch.setattr("tokenscope.server.feed.LOG_BYTES", 500)
    run = forks.client.post(f"/api/nodes/{node}/forking", json=LAST).json()["run"]
    assert forks.idle()
    events = [m["event"] for _, m in forks.view(run=run) if "event" in m]
    assert len(of_type(events, "place")) == 4 and len(of_type(events, "columns")) == 1


@pytest.mark.parametrize(
    "body",
    [{"width": 1}, {"gate": "taste"}, {"region": [0, 2]}, {"threshold": -1}, {"width": 200},
     {"outcome": "behaviour:/etc/passwd"}, {"gate": "viable", "language": "text"}, {"x": 1}],
)  # fmt: skip
def test_forking_refusals(forks: Served, body: dict[str, Any]) -> None:
    node = node_of(forks, "go:")
    answer = forks.client.post(f"/api/nodes/{node}/forking", json=body)
    assert answer.status_code == 422 and "passwd" not in answer.text


def test_decisions_tell_what_each_alternative_leads_to(forks: Served) -> None:
    node = node_of(forks, "go:")
    body = {"width": 3, "depth": 2, "horizon": 4, "outcome": LAST["outcome"]}
    events = forks.events(f"/api/nodes/{node}/explore", body)
    told, state = of_type(events, "decisions")[0], of_type(events, "state")[-1]
    names = {o["label"]: o["name"] for o in state["outcomes"]}
    assert set(names) == {"x", "y"}
    first = next(d for d in told["decisions"] if d["branch"] == 0 and d["at"] == events[0]["at"])
    led = {
        chr(a["id"]): {o["outcome"]: o["mass"] for o in a["outcomes"]}
        for a in first["alternatives"]
    }
    assert led["a"] == {names["x"]: pytest.approx(0.5, abs=1e-6)}
    assert led["b"] == {names["y"]: pytest.approx(0.3, abs=1e-6)}
    for d in told["decisions"]:
        parts = [a["mass"] for a in d["alternatives"]]
        assert sum(parts) + d["rest"] == pytest.approx(d["reach"], abs=1e-6)
    # the columns add up to the entropy of what was told apart along what was written
    own = [d for d in told["decisions"] if d["branch"] == 0]
    held = {n: told[f"{n}_column"] for n in ("semantic", "cosmetic")}
    for d in own:
        n = d["at"] - events[0]["at"]
        assert held["semantic"][n] == pytest.approx(d["semantic"], rel=1e-6)
        assert held["cosmetic"][n] == pytest.approx(d["cosmetic"], rel=1e-6, abs=1e-9)
    assert sum(v is not None for v in held["semantic"]) == len(own)


# --- compare ----------------------------------------------------------------------------------
def test_two_branches_side_by_side(serve: Callable[..., Served]) -> None:
    served = serve()
    node = node_of(served, "def f(x):", max_new_tokens=8)
    trace = served.client.get(f"/api/nodes/{node}").json()
    at = trace["n_prompt"] + 2
    body = {"at": at, "text": "zz = 12345678\n", "settings": {"max_new_tokens": 4}}
    other = served.events(f"/api/nodes/{node}/fork", body)[-1]["node"]["id"]
    path = f"/api/nodes/{node}/compare/{other}"
    bounds = served.client.get(path, params={"by": "statement"}).json()
    assert bounds["fork"]["a"] == bounds["fork"]["b"] == at
    assert not bounds["same_text"] and bounds["same_tokenizer"] and not bounds["exact"]
    assert bounds["columns"] == ["surprisal", "entropy"]
    ends = [(c["a"][1], c["b"][1]) for c in bounds["cells"]]
    assert ends[-1] == (bounds["summary_a"]["tokens"], bounds["summary_b"]["tokens"])
    names = "surprisal,logprob"
    octets = served.client.get(f"/api/nodes/{node}/columns", params={"names": names}).content
    surprisal, logprob = np.frombuffer(octets, "<f4").reshape(2, -1)
    for cell in bounds["cells"]:
        start, end = cell["a"]
        if 0 < start < end:
            assert cell["values_a"][0] == pytest.approx(surprisal[start:end].sum(), rel=1e-5)
    joint = bounds["joint_logprob"]
    assert joint["all"]["a"] == pytest.approx(np.nansum(logprob), rel=1e-5)
    assert [r["column"] for r in bounds["rollups"]] == ["surprisal", "entropy"]
    exact = served.client.get(path, params={"exact": True, "columns": "rank"}).json()
    assert exact["exact"] and exact["columns"] == ["rank"] and exact["rollups"] == []
    assert exact["at_fork"]["tv_high"] == pytest.approx(0.0, abs=1e-6)  # one model, one prefix
    assert bounds["at_fork"]["tv_low"] <= 1e-6
    low, high = bounds["after_fork"]["tv_low"], bounds["after_fork"]["tv_high"]
    assert low - 1e-6 <= exact["after_fork"]["tv_low"] <= high + 1e-6
    same = served.client.get(f"/api/nodes/{node}/compare/{node}").json()
    assert same["same_text"] and same["fork"] is None and same["joint_logprob"]["differs"]["a"] == 0
    for bad in ({"columns": "taste"}, {"columns": ""}, {"by": "taste"}, {"exact": "perhaps"}):
        assert served.client.get(path, params=bad).status_code == 422, bad
    assert served.client.get(f"/api/nodes/{node}/compare/none").status_code == 404


# --- ledger -----------------------------------------------------------------------------------
ARMS = [
    {"name": "no x", "edits": [{"kind": "ban_text", "strings": ["x"]}]},
    {"name": "harmless", "edits": [{"kind": "ban_text", "strings": ["zebra"]}]},
]
ASKED = {
    "prompts": ["go:", "so:"], "arms": ARMS, "outcome": "bytes", "reference": "go:a x",
    "settings": {"max_new_tokens": 4},
}  # fmt: skip


def test_a_ledger_arm_by_arm(forks: Served) -> None:
    run = forks.client.post("/api/ledger", json=ASKED).json()["run"]
    assert forks.idle()
    messages = [m for _, m in forks.view(run=run) if "event" in m]
    assert {(m["kind"], m["node"]) for m in messages} == {("ledger", "")}
    events = [m["event"] for m in messages]
    assert events[0]["arms"] == ["none", "no x", "harmless"] and events[0]["runs"] == 6
    arms = {a["name"]: a for a in of_type(events, "arm")}
    assert list(arms) == events[0]["arms"]
    figure = {
        n: {f["name"]: f["value"]["mean"] for f in a["figures"]} for n, a in arms.items()
    }  # fmt: skip
    assert figure["none"]["changed"] == 0 == figure["harmless"]["changed"]
    assert figure["no x"]["changed"] == 1.0
    assert {f["name"] for f in arms["none"]["figures"]} < {
        d["name"] for d in events[0]["definitions"]
    }
    assert arms["none"]["outcomes"][0]["label"] == "a x"
    assert arms["none"]["outcomes"][0]["share"] == 1.0
    # what came without the edit never comes with it: the paired difference of its share is -1
    banned = {o["label"]: o for o in arms["no x"]["outcomes"]}
    assert "a x" not in banned and all(o["against_none"]["mean"] == 1.0 for o in banned.values())
    assert arms["none"]["damage"] is None
    assert arms["no x"]["damage"]["kl"] > 0.1 > arms["harmless"]["damage"]["kl"]
    assert arms["no x"]["damage"]["nats_edited"] is None  # the reference holds an x
    assert of_type(events, "ledger")[0]["stands_out"] == ["no x", "harmless"]
    file = forks.client.get(f"/api/ledger/{run}")
    assert [a["name"] for a in file.json()["arms"]] == list(arms)
    assert "attachment" in file.headers["content-disposition"]
    page = forks.client.get(f"/api/ledger/{run}", params={"format": "html"})
    assert page.text.startswith("<!") and "no x" in page.text
    assert forks.client.get("/api/ledger/none").status_code == 404


def test_a_ledger_is_stopped(serve: Callable[..., Served], slowly: Callable[..., Any]) -> None:
    served = serve(slowly(0.005))
    asked = {**ASKED, "reference": "", "settings": {"max_new_tokens": 2000}}
    run = served.client.post("/api/ledger", json=asked).json()["run"]
    view = served.view(run=run)
    assert next(m for _, m in view if m.get("event", {}).get("type") == "start")
    assert served.client.post(f"/api/runs/{run}/cancel").status_code == 204
    assert served.idle(20)
    events = [m["event"] for _, m in served.view(run=run) if "event" in m]
    assert events[-1] == {"type": "done", "finish": "cancelled"}


@pytest.mark.parametrize(
    "change",
    [{"arms": []}, {"arms": [*ARMS, ARMS[0]]}, {"arms": [{**ARMS[0], "name": "none"}]},
     {"draws": 2}, {"prompts": []}, {"outcome": "behaviour:x"},
     {"arms": [{"name": "a", "edits": [{"kind": "taste"}]}]}],
)  # fmt: skip
def test_ledger_refusals(forks: Served, change: dict[str, Any]) -> None:
    assert forks.client.post("/api/ledger", json={**ASKED, **change}).status_code == 422


# --- steering vectors -------------------------------------------------------------------------
def test_steering_vectors_are_made_listed_used_and_taken_away(
    serve: Callable[..., Served], bundled: Model, tmp_path: Path
) -> None:
    served = serve(models=Models.of_one(Model(bundled.backend)), data=tmp_path / "data")
    assert served.client.get("/api/steering").json() == []
    asked = {"positive": ["x = 1", "yy = 2"], "negative": ["def f", "class G"], "layer": 2,
             "name": "numbers"}  # fmt: skip
    made = served.client.post("/api/steering", json=asked)
    assert made.status_code == 201
    told = made.json()
    assert told["name"] == "numbers" and told["positive"] == 2 and told["offer"] is not None
    assert told["ratio"] == pytest.approx(told["norm"] / told["residual"])
    file = tmp_path / "data" / "vectors" / f"{told['digest']}.safetensors"
    assert file.is_file() and served.client.get("/api/steering").json() == [told]
    served.house.models.vectors.clear()  # found again by its file
    edit = {"kind": "steer", "vector": told["digest"], "strength": 4.0}
    steered = node_of(served, TEXT, max_new_tokens=4, edits=[edit])
    columns = served.client.get(f"/api/nodes/{steered}").json()["columns"]
    assert "logprob_inner" in columns
    for bad in ({"layer": 99}, {"positive": []}, {"negative": [""]}, {"over": "sum"}, {"z": 1}):
        assert served.client.post("/api/steering", json={**asked, **bad}).status_code == 422, bad
    path = f"/api/steering/{told['digest']}"
    assert served.client.delete(path).status_code == 204
    assert not file.exists() and served.client.get("/api/steering").json() == []
    assert served.client.delete(path).status_code == 404
    assert served.client.delete("/api/steering/nothing").status_code == 422


def test_a_model_whose_inside_cannot_be_changed(forks: Served) -> None:
    asked = {"positive": ["go:"], "negative": ["so:"], "layer": 0}
    answer = forks.client.post("/api/steering", json=asked)
    assert answer.status_code == 409
