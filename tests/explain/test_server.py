"""The routes of explanations on a real socket, over the bundled model, guarded like all others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import pytest
import uvicorn

import tokenscope as ts
from tokenscope.explain.heads import ALL_STATISTICS as STATISTICS
from tokenscope.explain.tables import TABLES
from tokenscope.server.app import open_house
from tokenscope.server.jobs import Jobs
from tokenscope.server.security import Access
from tokenscope.store import Store

TOKEN = "fedcba9876543210" * 4
PROMPT = "import os\n\ndef run(command):\n    return os.system(command, shell="


@dataclass
class Why:
    """A signed-in client, the branch to explain, its length and where its own part begins."""

    client: httpx2.Client
    node: str
    length: int
    at: int
    jobs: Jobs

    def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.stream(path, body))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        begun = self.client.post(path, json=body)
        assert begun.status_code == 202, begun.text
        named = {"run": begun.json()["run"]}
        with self.client.stream("GET", "/api/events", params=named, timeout=120) as answer:
            for line in answer.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if "event" in message:
                    yield message["event"]

    def idle(self) -> bool:
        end = time.monotonic() + 20
        while self.jobs.count and time.monotonic() < end:
            time.sleep(0.01)
        return self.jobs.count == 0


@pytest.fixture(scope="module")
def why(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Why]:
    folder = tmp_path_factory.mktemp("why")
    store = Store(folder / "data")
    made = open_house(ts.load(), store, Access(TOKEN), 8, folder / "no-page")
    server = uvicorn.Server(uvicorn.Config(made.app, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    client = httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {TOKEN}"},
        timeout=120,
    )  # fmt: skip
    session = client.post("/api/sessions", json={}).json()["id"]
    found = Why(client, "", 0, 0, made.house.jobs)
    body = {"prompt": PROMPT, "settings": {"max_new_tokens": 6}}
    found.node = found.events(f"/api/sessions/{session}/generate", body)[0]["node"]["id"]
    trace = client.get(f"/api/nodes/{found.node}").json()
    found.length, found.at = len(trace["ids"]), trace["n_prompt"]
    yield found
    client.close()
    made.house.jobs.stop()
    server.should_exit = True
    thread.join(15)
    store.close()


def test_what_can_be_asked(why: Why) -> None:
    info = why.client.get("/api/explain").json()
    names = {d["name"] for d in info["definitions"]}
    assert {m["name"] for m in info["methods"]} <= names
    assert info["statistics"] == list(STATISTICS) and set(STATISTICS) <= names
    assert info["tables"] == list(TABLES.names()) and "edge" in info["patterns"]
    assert [x["layer"] for x in info["layers"]] == list(range(len(info["layers"])))
    assert all(d["formula"] and d["source"] and d["limits"] for d in info["definitions"])


def test_a_job_with_progress_and_every_table(why: Why) -> None:
    body = {"at": why.at, "contrast": 5, "tables": list(TABLES.names())}
    events = why.events(f"/api/nodes/{why.node}/explain", body)
    kinds = [e["type"] for e in events]
    assert kinds[0] == "start" and kinds[-1] == "done" and "progress" in kinds
    made = next(e for e in events if e["type"] == "attribution")
    assert len(made["values"]) == why.at and made["sentence"]
    assert [e["name"] for e in events if e["type"] == "table"] == list(TABLES.names())
    assert events[-1]["finish"] == "done" and why.idle()


def test_a_job_can_be_cancelled(why: Why) -> None:
    body = {"at": why.at, "method": "integrated_gradients", "tables": list(TABLES.names())}
    kinds = []
    for event in why.stream(f"/api/nodes/{why.node}/explain", body):
        kinds.append(event)
        if event["type"] == "start":
            done = why.client.post(f"/api/runs/{event['run']}/cancel")
            assert done.status_code == 204
    assert kinds[-1] == {"type": "done", "finish": "cancelled"} and why.idle()


def test_a_patch_map_streams_its_cost_and_the_map(why: Why) -> None:
    path = f"/api/nodes/{why.node}/patch"
    corrupt = PROMPT.replace("shell=", "shell(")
    body = {"at": why.at, "corrupt": corrupt, "parts": ["residual", "heads"]}
    events = why.events(path, body)
    assert events[0]["type"] == "start" and events[0]["runs"] > 0 and "runs" in events[0]["cost"]
    made = next(e for e in events if e["type"] == "patch")
    residual, heads = made["parts"]
    assert residual["name"] == "residual" and len(residual["effect"][0]) == len(made["columns"])
    # the tokens that both texts begin with stay as they are
    assert made["columns"][: made["same"]] and "".join(made["columns"]).endswith("shell(")
    assert residual["effect"][0][0] == 0 and heads["effect"][0][0] is not None
    assert events[-1] == {"type": "done", "finish": "done"} and why.idle()
    for bad in ({"at": 0}, {"corrupt": PROMPT}, {"corrupt": ""}, {"parts": ["neurons"]}):
        assert why.client.post(path, json=body | bad).status_code == 422
    assert why.idle()


def test_one_ablation(why: Why) -> None:
    body = {"at": why.at, "part": "head", "layer": 0, "head": 1, "how": "zero"}
    answer = why.client.post(f"/api/nodes/{why.node}/ablate", json=body).json()
    assert np.isfinite([answer["value"], answer["effect"]]).all()


def test_the_explorers_octets(why: Why) -> None:
    answer = why.client.get(f"/api/nodes/{why.node}/heads?size=8")
    s, layers, per, cells = map(int, answer.headers["x-heads-shape"].split(","))
    assert s == len(STATISTICS) and cells <= 8
    assert len(answer.content) == 4 * (s * layers * per + s + layers * per * cells**2)
    assert int(answer.headers["x-memory-bytes"]) > 0
    whole = why.client.get(f"/api/nodes/{why.node}/matrix?layer=1&head=0")
    n = why.length
    matrix = np.frombuffer(whole.content, dtype="<f4").reshape(n, n)
    assert np.abs(matrix.sum(-1) - 1).max() < 1e-4 and np.triu(matrix, 1).max() == 0
    for query in ("kind=rollout", "layer=0&head=max&kind=norm&q0=2&q1=5&k0=1&k1=4"):
        part = why.client.get(f"/api/nodes/{why.node}/matrix?{query}")
        rows, columns = map(int, part.headers["x-attention-shape"].split(","))
        assert len(part.content) == rows * columns * 4
    found = why.client.get(f"/api/nodes/{why.node}/find?pattern=edge&query=5&keys=0,2").json()
    assert found[0]["score"] >= found[-1]["score"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "explain", {"at": 0}),
        ("POST", "explain", {"at": 10**6}),
        ("POST", "explain", {"at": 3, "method": "magic"}),
        ("POST", "explain", {"at": 3, "tables": ["magic"]}),
        ("POST", "explain", {"at": 3, "contrast": 10**8}),
        ("POST", "explain", {"at": 3, "more": 1}),
        ("POST", "ablate", {"at": 3, "part": "edge", "query": 1, "key": 2}),
        ("POST", "ablate", {"at": 3, "part": "head", "layer": 99, "head": 0}),
        ("GET", "matrix?layer=99", None),
        ("GET", "matrix?head=x", None),
        ("GET", "matrix?q0=4&q1=3", None),
        ("GET", "heads?size=0", None),
        ("GET", "find?pattern=magic", None),
        ("GET", "find?pattern=edge", None),
        ("GET", "find?pattern=edge&query=3&keys=a", None),
    ],
)
def test_bad_questions_get_a_clear_answer(why: Why, method: str, path: str, body: Any) -> None:
    answer = why.client.request(method, f"/api/nodes/{why.node}/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] and why.idle()


def test_nobody_else_may_ask(why: Why) -> None:
    base = str(why.client.base_url)
    for method, path in (
        ("GET", "api/explain"), ("POST", f"api/nodes/{why.node}/explain"),
        ("POST", f"api/nodes/{why.node}/ablate"), ("GET", f"api/nodes/{why.node}/heads"),
        ("GET", f"api/nodes/{why.node}/matrix"), ("GET", f"api/nodes/{why.node}/find?pattern=sink"),
    ):  # fmt: skip
        assert httpx2.request(method, f"{base.rstrip('/')}/{path}").status_code == 401
