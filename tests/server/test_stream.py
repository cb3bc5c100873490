"""Decoding over the wire."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from conftest import Served


def test_events_carry_the_whole_trace(served: Served) -> None:
    events = served.generate("def f(x):", max_new_tokens=6, alternatives=4)
    assert [events[0]["type"], events[-1]["type"]] == ["start", "end"]
    steps = [e for e in events if e["type"] == "step"]
    data = b"".join(base64.b64decode(b) for s in steps for b in s["bytes"])
    node = events[-1]["node"]
    whole = served.client.get(f"/api/nodes/{node['id']}").json()
    assert base64.b64decode(whole["data"]) == data
    assert data.startswith(b"def f(x):")
    assert whole["n_prompt"] == 9
    assert node["status"] == "done"
    assert node["summary"]["generated_tokens"] == 6
    assert [s["prompt"] for s in steps][-6:] == [False] * 6

    shown = [v for s in steps for v in s["columns"]["entropy"]]
    raw = served.client.get(f"/api/nodes/{node['id']}/columns?names=entropy,rank").content
    entropy, rank = np.frombuffer(raw, "<f4").reshape(2, -1)
    assert shown[0] is None
    assert np.isnan(entropy[0])
    np.testing.assert_allclose(np.array(shown[1:], np.float32), entropy[1:], rtol=2e-7)
    assert rank[1] >= 1

    raw = served.client.get(f"/api/nodes/{node['id']}/alternatives").content
    ids = np.frombuffer(raw[: len(raw) // 2], "<i4").reshape(-1, 4)
    assert [row for s in steps for row in s["alternative_ids"]] == [[], *ids[1:].tolist()]
    known = {p["id"] for s in steps for p in s["pieces"]}
    assert known == set(ids[1:].ravel().tolist())


def test_a_fork_shares_what_its_parent_measured(served: Served) -> None:
    parent = served.generate(max_new_tokens=6)[-1]["node"]
    events = served.events(
        f"/api/nodes/{parent['id']}/fork",
        {"at": 11, "token_id": 65, "settings": {"max_new_tokens": 3}},
    )
    start, end = events[0], events[-1]
    assert start["shared"] == 11
    first = next(e for e in events if e["type"] == "step")
    assert (first["start"], first["ids"][0]) == (11, 65)
    assert end["node"]["parent"] == parent["id"]
    assert end["node"]["own_tokens"] == 4
    names = "?names=entropy"
    mine = served.client.get(f"/api/nodes/{end['node']['id']}/columns{names}").content
    hers = served.client.get(f"/api/nodes/{parent['id']}/columns{names}").content
    assert mine[: 11 * 4] == hers[: 11 * 4]


def test_a_second_run_of_a_prompt_sends_every_token(served: Served) -> None:
    """The engine may reuse what it measured; the page must not have to know."""
    first, second = served.generate(), served.generate()
    of = lambda events: [i for e in events if e["type"] == "step" for i in e["ids"]]
    assert of(first) == of(second)
    assert second[0]["shared"] == 0


def test_a_fork_with_other_settings_is_complete(served: Served) -> None:
    parent = served.generate(max_new_tokens=4, alternatives=3)[-1]["node"]
    events = served.events(
        f"/api/nodes/{parent['id']}/fork",
        {"at": 10, "text": "", "settings": {"max_new_tokens": 2, "alternatives": 5}},
    )
    node = events[-1]["node"]
    sent = sum(len(e["ids"]) for e in events if e["type"] == "step")
    assert events[0]["shared"] + sent == node["summary"]["tokens"] == 12
    assert served.client.get(f"/api/nodes/{node['id']}").json()["k"] == 5


def test_score_measures_without_generating(served: Served) -> None:
    events = served.events(f"/api/sessions/{served.session()}/score", {"text": "x = 1\n"})
    node = events[-1]["node"]
    assert (node["form"], node["finish"]) == ("score", "scored")
    assert node["summary"]["generated_tokens"] == 0
    assert node["own_tokens"] == 6


def test_attention_routes(served: Served) -> None:
    node = served.generate(max_new_tokens=4)[-1]["node"]["id"]
    answer = served.client.get(f"/api/nodes/{node}/attention/10")
    assert answer.headers["x-attention-shape"] == "2,2,10"
    rows = np.frombuffer(answer.content, "<f4").reshape(2, 2, 10)
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-5)
    back = served.client.get(f"/api/nodes/{node}/attended/3?layer=1&head=0")
    values = np.frombuffer(back.content, "<f4")
    assert np.isnan(values[:4]).all()
    assert values[10] == rows[1, 0, 3]


def test_cancel_keeps_what_was_written(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01))
    seen = []
    path = f"/api/sessions/{served.session()}/generate"
    for event in served.stream(path, {"prompt": "ab", "settings": {"max_new_tokens": 5000}}):
        seen.append(event)
        if len(seen) == 10:
            assert served.client.post(f"/api/runs/{seen[0]['run']}/cancel").status_code == 204
    end = seen[-1]
    assert (end["type"], end["finish"]) == ("end", "cancelled")
    sent = sum(len(e["ids"]) for e in seen if e["type"] == "step")
    assert end["node"]["summary"]["tokens"] == sent < 100
    assert served.client.post(f"/api/runs/{seen[0]['run']}/cancel").status_code == 404


def test_two_at_once_take_turns(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.004))
    order: list[str] = []

    def run(name: str) -> None:
        path = f"/api/sessions/{served.session()}/generate"
        for event in served.stream(path, {"prompt": "ab", "settings": {"max_new_tokens": 40}}):
            order.extend(name for _ in event.get("ids", ()))

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(order) == 84
    middle = order[20:60]
    assert 10 <= middle.count("a") <= 30


def test_one_run_too_many_is_told_to_wait(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01), most_runs=1)
    session = served.session()
    path = f"/api/sessions/{session}/generate"
    for event in served.stream(path, {"prompt": "a", "settings": {"max_new_tokens": 5000}}):
        if event["type"] == "step":
            answer = served.client.post(path, json={"prompt": "b"})
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"] == "busy"
            break
    served.house.jobs.cancel_of(session=session)
    assert served.idle()
    # a refused request gives its place back too
    assert served.client.post(path, json={"prompt": "x" * 30_000}).status_code == 413
    assert served.generate(max_new_tokens=1)[-1]["type"] == "end"


def test_a_crash_inside_the_model_ends_the_stream_plainly(
    serve: Callable[..., Served], slowly: Any
) -> None:
    class Panic(BaseException):
        pass

    def script(ids: list[int]) -> object:
        if len(ids) > 12:
            raise Panic("secret detail")
        return slowly(0)(ids)

    served = serve(script)
    events = served.generate(max_new_tokens=20)
    assert events[-1]["type"] == "error"
    assert "secret" not in events[-1]["message"]
    assert served.idle()
    nodes = served.client.get(f"/api/sessions/{events[0]['node']['session']}").json()["nodes"]
    assert nodes[0]["finish"] == "error"
    assert nodes[0]["summary"]["tokens"] >= 9


def test_a_running_branch_can_be_read(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01))
    path = f"/api/sessions/{served.session()}/generate"
    seen = 0
    for event in served.stream(path, {"prompt": "ab", "settings": {"max_new_tokens": 500}}):
        if event["type"] == "start":
            node = event["node"]["id"]
        seen += len(event.get("ids", ()))
        if seen > 20:
            whole = served.client.get(f"/api/nodes/{node}").json()
            assert whole["node"]["status"] == "running"
            assert len(whole["ids"]) >= seen
            assert served.client.get(f"/api/nodes/{node}/structure").json()["tokens"] >= seen
            break
    served.house.jobs.cancel_of(node=node)
    assert served.idle(2.0)


def test_deleting_a_running_branch_stops_it(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01))
    path = f"/api/sessions/{served.session()}/generate"
    seen = []
    for event in served.stream(path, {"prompt": "ab", "settings": {"max_new_tokens": 500}}):
        seen.append(event)
        if len(seen) == 10:
            assert served.client.delete(f"/api/nodes/{seen[0]['node']['id']}").status_code == 204
    assert (seen[-1]["type"], seen[-1]["finish"]) == ("end", "cancelled")
