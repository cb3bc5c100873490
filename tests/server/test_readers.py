"""Readers who leave, stall, or never say what they want."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tokenscope.server import connection, feed

if TYPE_CHECKING:
    from conftest import Served

SLOW_SOURCE = "const a = [" + ", ".join(f"f({i})" for i in range(300)) + "]\n"


def ask(served: Served, path: str, buffer: int = 4096) -> socket.socket:
    """A GET whose answer nobody reads yet."""
    raw = socket.create_connection(("127.0.0.1", served.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
        f"Authorization: Bearer {served.access.token}\r\n\r\n".encode()
    )
    return raw


def until(what: Callable[[], bool], within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    return what()


def cut_off(raw: socket.socket, within: float = 10.0) -> bool:
    """Whether the server ends the connection, once what it sent is read."""
    raw.settimeout(within)
    try:
        while raw.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("route", ["viability?budget=30&language=javascript"])
def test_an_abandoned_question_frees_its_place(serve: Callable[..., Served], route: str) -> None:
    served = serve(most_runs=1)
    session = served.session()
    body = {"text": SLOW_SOURCE, "alternatives": 50}
    node = served.events(f"/api/sessions/{session}/score", body)[-1]["node"]["id"]
    assert served.idle()
    # a scored text has no generated token: everything after the first is judged
    raw = ask(served, f"/api/nodes/{node}/{route}")
    assert until(lambda: served.house.jobs.count == 1)
    time.sleep(0.2)
    assert served.house.jobs.count == 1, "it takes long enough for this test"
    raw.close()
    assert until(lambda: served.house.jobs.count == 0, 0.6), "one step and 250 ms"
    assert served.generate(max_new_tokens=1)[-1]["type"] == "end"


def test_a_reader_that_never_reads_is_cut_off(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 0.6)
    monkeypatch.setattr(connection, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(connection, "SEND_BUFFER", 8192)
    served = serve()
    settings = {"max_new_tokens": 1200, "alternatives": 100, "attention": "none"}
    job = served.client.post(
        f"/api/sessions/{served.session()}/generate", json={"prompt": "ab", "settings": settings}
    ).json()
    raw = [ask(served, f"/api/events?run={job['run']}") for _ in range(3)]
    assert until(lambda: len(served.house.jobs.feed._listeners) == 3)
    assert served.idle(30.0), "readers that stall do not hold the run"
    assert until(lambda: len(served.house.jobs.feed._listeners) == 0)
    assert all(cut_off(one) for one in raw)
    assert served.client.get(f"/api/runs/{job['run']}").json()["running"] is False


def test_a_slow_reader_is_not_cut_off(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 1.0)
    monkeypatch.setattr(connection, "LOOK_EVERY", 0.1)
    served = serve()
    events = served.generate("x" * 6000, max_new_tokens=1, alternatives=100, attention="none")
    node = events[-1]["node"]["id"]
    size = 6001 * 100 * 8
    raw = ask(served, f"/api/nodes/{node}/alternatives", 65536)
    got = 0
    for _ in range(20):  # twice the time-out, a little at a time
        got += len(raw.recv(65536))
        time.sleep(0.1)
    raw.settimeout(5)
    while got < size:
        part = raw.recv(65536)
        assert part, "cut off"
        got += len(part)
    raw.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_header_that_does_not_end_is_not_waited_for(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.4)
    monkeypatch.setattr(connection, "LOOK_EVERY", 0.1)
    served = serve()
    raw = socket.create_connection(("127.0.0.1", served.port))
    raw.sendall(sent)
    assert cut_off(raw, 3.0)
    # also after a whole request, on a connection that is kept
    raw = ask(served, "/api/sessions")
    raw.settimeout(3)
    assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    time.sleep(0.7)
    raw.sendall(sent or b"G")
    time.sleep(0.1)
    assert cut_off(raw, 3.0)
    assert served.client.get("/api/sessions").status_code == 200


def test_many_who_leave(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.02), most_runs=2)
    job = served.client.post(
        f"/api/sessions/{served.session()}/generate",
        json={"prompt": "ab", "settings": {"max_new_tokens": 2000, "attention": "none"}},
    ).json()
    for n in range(60):
        raw = ask(served, f"/api/events?run={job['run']}" if n % 2 else "/api/events?session=x")
        if n % 3:
            raw.recv(100)
        raw.close()
    assert until(lambda: len(served.house.jobs.feed._listeners) == 0)
    assert served.house.jobs.count == 1, "the run goes on"
    served.client.post(f"/api/runs/{job['run']}/cancel")
    assert served.idle(2.0)


@pytest.mark.parametrize("turns", range(4))
def test_a_reader_who_leaves_just_when_an_event_comes_has_left(turns: int) -> None:
    async def story() -> bool:
        listener = feed.Listener(lambda run, session: True)
        waiting = asyncio.ensure_future(listener.wait(30))
        await asyncio.sleep(0)
        listener.call()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled() or turns > 1

    assert asyncio.run(story())


def test_what_left_the_log_is_made_again_for_one_reader_at_a_time(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the whole trace to make: many readers at once would each hold one."""
    monkeypatch.setattr(feed, "LOG_BYTES", 2000)
    served = serve()
    session = served.session()
    body = {"prompt": "def f(x):", "settings": {"max_new_tokens": 60}}
    run = served.client.post(f"/api/sessions/{session}/generate", json=body).json()["run"]
    assert served.idle()
    job = served.house.jobs.get(run)
    inside, most = 0, 0
    again = job.work.again

    def counted(gap: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        return again(gap)

    monkeypatch.setattr(job.work, "again", counted)
    read: list[int] = []
    readers = [
        threading.Thread(target=lambda: read.append(len(list(served.view(run=run)))))
        for _ in range(6)
    ]
    for one in readers:
        one.start()
    for one in readers:
        one.join(30)
    assert len(set(read)) == 1 and len(read) == 6
    assert most == 1


def test_who_asks_is_told_how_far_a_run_is(serve: Callable[..., Served], slowly: Any) -> None:
    served = serve(slowly(0.01))
    body = {"prompt": "def f(x):", "settings": {"max_new_tokens": 500, "attention": "none"}}
    path = f"/api/sessions/{served.session()}/generate"
    run = served.client.post(path, json=body).json()["run"]
    seen: list[int] = []
    end = time.monotonic() + 20
    while len(set(seen)) < 3 and time.monotonic() < end:
        told = served.client.get(f"/api/runs/{run}").json()
        if told["what"] == "tokens":
            seen.append(told["done"])
            assert (told["total"], told["left_s"] >= 0) == (509, True)
        time.sleep(0.05)
    served.client.post(f"/api/runs/{run}/cancel")
    assert len(set(seen)) >= 3 and seen == sorted(seen)
