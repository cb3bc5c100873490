"""Storage that fails under a running server: named on the page, never 200, well again after."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bench.storage import KINDS, Fault, injected
from tests.server.conftest import Served


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
