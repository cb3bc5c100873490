"""Storage that fails under a running server: named on the page, never 200, well again after."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import pytest

from bench.storage import KINDS, Fault, injected
from tests.server.conftest import Served
from tokenscope import disk
from tokenscope.server import decode_job
from tokenscope.trace import files


def test_a_removed_folder_is_said_and_heals(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    node = served.generate()[-1]["node"]["id"]
    folder = served.house.store.path
    aside = folder.with_name("aside")
    folder.rename(aside)
    with caplog.at_level(logging.ERROR):
        for answer in (
            served.client.post("/api/sessions", json={}),
            served.client.get("/api/sessions"),
            served.client.get(f"/api/nodes/{node}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (500, "store_gone")
            assert "put it back" in answer.json()["message"]
    assert "put it back" in caplog.text
    aside.rename(folder)
    assert served.client.post("/api/sessions", json={}).status_code == 200
    assert served.client.get(f"/api/nodes/{node}").status_code == 200


@pytest.mark.parametrize(("kind", "code"), [(KINDS[0], "store_full"), (KINDS[1], "store_failing")])
def test_a_disk_that_fails_in_the_middle_of_a_run(
    serve: Callable[..., Served], kind: tuple[int, int], code: str
) -> None:
    served = serve()
    session = served.session()
    served.house.store._database.close()  # connections that are open already would not fail
    with injected(Fault(25, kind, lasting=True, short=True)):
        events = served.events(
            f"/api/sessions/{session}/generate",
            {"prompt": "def f(x):", "settings": {"max_new_tokens": 200}},
        )
        assert events[-1]["type"] == "error"
        assert events[-1]["code"] == code
        shown = [i for e in events if e["type"] == "step" for i in e["ids"]]
        assert len(shown) > 12
        assert served.idle()
        node = events[0]["node"]["id"]
        (row,) = served.client.get(f"/api/sessions/{session}").json()["nodes"]
        assert row["status"] == "interrupted"
        assert served.client.post("/api/sessions", json={}).json()["code"] == code
    served.house.store._database.close()
    assert served.client.post("/api/sessions", json={}).status_code == 200
    assert served.house.store.trace(node).ids.tolist() == shown
    assert not served.house.store._unsettled


def test_the_bin_says_what_it_takes_and_is_emptied(serve: Callable[..., Served]) -> None:
    served = serve()
    node = served.generate()[-1]["node"]
    empty = served.client.get("/api/storage").json()
    assert (empty["deleted_sessions"], empty["deleted_bytes"]) == (0, 0)
    assert empty["retention_days"] == 30
    served.client.delete(f"/api/sessions/{node['session']}")
    held = served.client.get("/api/storage").json()
    assert (held["deleted_sessions"], held["deleted_branches"]) == (1, 1)
    assert held["deleted_bytes"] > 500
    left = served.client.post("/api/storage/purge").json()
    assert (left["deleted_sessions"], left["deleted_bytes"]) == (0, 0)
    assert served.client.post(f"/api/sessions/{node['session']}/restore").status_code == 404


def test_a_slow_disk_is_told_to_the_page(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        writes = 0

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, file: int, data: memoryview) -> int:
            Slow.writes += 1
            if Slow.writes == 4:
                time.sleep(0.5)
            return os.write(file, data)

    served = serve()
    monkeypatch.setattr(decode_job, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(decode_job, "PATIENCE", 0.1)
    monkeypatch.setattr(disk, "os", Slow())
    events = served.generate(max_new_tokens=20)
    kinds = [e["type"] for e in events]
    told = [e["seconds"] for e in events if e["type"] == "waiting"]
    assert told
    assert 0.1 <= told[0] <= 0.7
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert "step" in kinds[kinds.index("waiting") :]
    assert not [t for t in threading.enumerate() if t.name.startswith("disk-")]


def test_a_file_cut_short_under_a_running_server_is_damage(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    node = served.generate(attention="full")[-1]["node"]["id"]
    store = served.house.store
    monkeypatch.setattr(files, "AT_ONCE", 0)  # as if it were large
    store._cache.drop(node)  # as after a restart: rows are read when they are asked for
    held = store.trace(node).attention
    assert held is not None
    (file,) = (store.path / "traces").glob(f"{node}*")
    os.truncate(file, file.stat().st_size // 2)
    answer = served.client.get(f"/api/nodes/{node}/attention/{held.first + held.count - 1}")
    assert (answer.status_code, answer.json()["code"]) == (500, "store_damaged")
    assert "cut short" in answer.json()["message"]
    assert "restore the last backup" in answer.json()["message"]
