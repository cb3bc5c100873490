"""Runs belong to the server: views of them are left, joined again, and shared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tokenscope.server import feed

if TYPE_CHECKING:
    from conftest import Served

LONG = {"prompt": "ab", "settings": {"max_new_tokens": 300, "alternatives": 3}}


def begin(served: Served, body: dict[str, Any] = LONG) -> dict[str, Any]:
    """A run in a session of its own, as the server answers: at once."""
    answer = served.client.post(f"/api/sessions/{served.session()}/generate", json=body)
    assert answer.status_code == 202
    job: dict[str, Any] = answer.json()
    assert job["running"] and job["kind"] == "generate"
    return job


def number(name: str) -> int:
    return int(name.partition("-")[2])


def steps(messages: list[dict[str, Any]]) -> list[int]:
    """The index of every token shown, in the order in which it came."""
    shown = []
    for message in messages:
        event = message.get("event", {})
        if event.get("type") == "step":
            shown += range(event["start"], event["start"] + len(event["ids"]))
    return shown


def test_a_run_goes_on_when_its_reader_leaves(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.001))
    job = begin(served)
    for _, message in served.view(run=job["run"]):
        if len(steps([message])):
            break
    assert served.idle(20.0)
    node = served.client.get(f"/api/nodes/{job['node']}").json()["node"]
    assert (node["status"], node["finish"]) == ("done", "length")
    assert node["summary"]["generated_tokens"] == 300
    assert served.client.get(f"/api/runs/{job['run']}").json()["running"] is False


def test_a_view_is_joined_again_without_loss(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.001))
    job = begin(served)
    seen, messages, names, rounds = "", [], [], 0
    while not messages or messages[-1]["event"]["type"] != "end":
        rounds += 1
        for name, message in served.view(seen, run=job["run"]):
            if "event" not in message:
                assert message["type"] == "hello" and name == ""
                continue
            seen = name
            names.append(number(name))
            messages.append(message)
            if len(messages) % 37 == 0:
                break
    assert rounds > 5
    assert names == sorted(set(names)), "none doubled, none turned round"
    assert steps(messages) == list(range(302)), "none lost"
    assert {(m["run"], m["node"]) for m in messages} == {(job["run"], job["node"])}
    # one that comes late sees the same
    late = [m for _, m in served.view(run=job["run"]) if "event" in m]
    assert steps(late) == list(range(302)) and late[0]["event"]["type"] == "start"


@pytest.mark.parametrize("parent", [False, True])
def test_what_fell_out_of_the_log_is_made_again(
    serve: Callable[..., Served], slowly: Any, monkeypatch: pytest.MonkeyPatch, parent: bool
) -> None:
    monkeypatch.setattr(feed, "LOG_BYTES", 3000)
    monkeypatch.setattr(feed, "GAP_TOKENS", 50)
    served = serve(slowly(0.001))
    job = begin(served)
    if parent:
        assert served.idle(20.0)
        body = {"at": 120, "token_id": 65, "settings": LONG["settings"]}
        job = served.client.post(f"/api/nodes/{job['node']}/fork", json=body).json()
    first = 120 if parent else 0
    before: list[dict[str, Any]] = []
    view = served.view(run=job["run"])
    while len(before) < 40:
        name, message = next(view)
        before.append(message)
    view.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    rest = [m for _, m in served.view(name, run=job["run"]) if "event" in m]
    end = rest[-1]["event"]["node"]["summary"]["tokens"]
    assert steps(before + rest) == list(range(first, end))
    again = [m for _, m in served.view(run=job["run"]) if "event" in m]
    assert len(again) < 60, "most came from the trace"
    raw = served.client.get(f"/api/nodes/{job['node']}").json()
    ids = [i for m in again if m["event"]["type"] == "step" for i in m["event"]["ids"]]
    assert ids == raw["ids"][first:]
    assert again[-1]["event"]["node"]["status"] == "done"
    spelt = {p["id"] for m in again for p in m["event"].get("pieces", ())}
    assert spelt >= {i for m in again for r in m["event"].get("alternative_ids", ()) for i in r}


def test_two_pages_watch_one_run(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.001))
    session = served.session()
    got: list[list[dict[str, Any]]] = [[], []]

    def watch(mine: list[dict[str, Any]]) -> None:
        for _, message in served.view(session=session):
            mine.append(message)
            if message.get("event", {}).get("type") == "end":
                return

    pages = [threading.Thread(target=watch, args=(mine,)) for mine in got]
    for page in pages:
        page.start()
    while not all(got):
        time.sleep(0.005)
    served.client.post(f"/api/sessions/{session}/generate", json=LONG)
    begin(served)  # of another session: not seen here
    for page in pages:
        page.join(20)
    strip = [[m for m in mine if "event" in m and m["event"]["type"] != "progress"] for mine in got]
    assert strip[0] == strip[1] and steps(strip[0]) == list(range(302))


def test_a_new_view_of_a_session_shows_what_runs_not_what_is_over(
    serve: Callable[..., Served], slowly: Any
) -> None:
    served = serve(slowly(0.002))
    session = served.session()
    path = f"/api/sessions/{session}/generate"
    first = served.client.post(path, json={"prompt": "a", "settings": {"max_new_tokens": 1}})
    assert served.idle()
    second = served.client.post(path, json=LONG).json()
    view = served.view(session=session)
    _, hello = next(view)
    assert {(j["run"], j["running"]) for j in hello["jobs"]} == {
        (first.json()["run"], False), (second["run"], True)
    }  # fmt: skip
    for _, message in view:
        assert message["run"] == second["run"]
        if message["event"]["type"] == "end":
            break
    view.close()


def test_nobody_watches_for_too_long(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01), unattended=0.5)
    job = begin(served, {"prompt": "ab", "settings": {"max_new_tokens": 5000}})
    assert served.idle(5.0)
    node = served.client.get(f"/api/nodes/{job['node']}").json()["node"]
    assert (node["status"], node["finish"]) == ("done", "cancelled")
    # one that is watched goes on
    job = begin(served, {"prompt": "ab", "settings": {"max_new_tokens": 150}})
    *_, last = served.view(run=job["run"])
    assert last[1]["event"]["finish"] == "length"


def test_deleting_a_session_stops_its_runs(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01))
    job = begin(served, {"prompt": "ab", "settings": {"max_new_tokens": 5000}})
    other = begin(served)
    assert served.client.delete(f"/api/sessions/{job['session']}").status_code == 204
    *_, last = served.view(run=job["run"])
    assert last[1]["event"]["finish"] == "cancelled"
    assert served.client.get(f"/api/runs/{other['run']}").json()["running"]
    served.house.jobs.stop()


def test_an_id_of_another_start_counts_for_nothing(served: Served) -> None:
    job = begin(served, {"prompt": "ab", "settings": {"max_new_tokens": 3}})
    for seen in ("0123-5", "x", f"{served.house.jobs.feed.epoch}-{10**17}", "-", "é"):
        try:
            messages = [m for _, m in served.view(seen, run=job["run"])]
        except UnicodeEncodeError:  # the client refuses it
            continue
        assert steps(messages) == list(range(5))
    assert [m["type"] for _, m in served.view(run="never")] == ["hello"]
