"""A real server on a real socket, in this process, over the scripted backend."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.runs.model import Model
from tokenscope.server.access import Access
from tokenscope.server.app import open_house
from tokenscope.server.connection import Connection
from tokenscope.server.house import House
from tokenscope.server.models import Models
from tokenscope.store import Store

TOKEN = "0123456789abcdef" * 4


@dataclass
class Served:
    """A running server; `client` is signed in with a bearer key."""

    house: House
    access: Access
    port: int
    client: httpx2.Client

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def session(self) -> str:
        made: str = self.client.post("/api/sessions", json={}).json()["id"]
        return made

    def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """All events of a stream, once it has ended."""
        return list(self.stream(path, body))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Begin a job, and its events as they come; leaving the loop leaves the view."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        for _, message in self.view(run=answer.json()["run"]):
            if "event" in message:
                yield message["event"]

    def view(self, seen: str = "", **which: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and message of every event of a view; leaving the loop leaves it."""
        headers = {"last-event-id": seen} if seen else {}
        with self.client.stream("GET", "/api/events", params=which, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            name = ""
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    name = line[4:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])
                    name = ""

    def generate(self, prompt: str = "def f(x):", **settings: Any) -> list[dict[str, Any]]:
        """Decode into a session of its own."""
        body = {"prompt": prompt, "settings": {"max_new_tokens": 8, **settings}}
        return self.events(f"/api/sessions/{self.session()}/generate", body)

    def idle(self, within: float = 5.0) -> bool:
        """Whether every run has ended in time."""
        end = time.monotonic() + within
        while self.house.jobs.count and time.monotonic() < end:
            time.sleep(0.005)
        return self.house.jobs.count == 0


def _slowly(seconds: float) -> Callable[..., Any]:
    """A script whose every step takes a while, and which never ends by itself."""

    def script(ids: Any) -> Any:
        time.sleep(seconds)
        logits = hashed(ids)
        logits[256] = -50.0
        return logits

    return script


@pytest.fixture
def slowly() -> Callable[[float], Any]:
    """`slowly(0.01)`: a script whose every step takes that long, and which never ends."""
    return _slowly


class Servers:
    """Starts servers in a folder, and stops them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stops: list[Callable[[], None]] = []

    def start(
        self, script: Any = hashed, most_runs: int = 8, page: Path | None = None,
        unattended: float = 600.0, models: Models | None = None, data: Path | None = None,
        house: dict[str, Any] | None = None, **access: Any,
    ) -> Served:  # fmt: skip
        store = Store(data if data is not None else self.folder / f"data{len(self.stops)}")
        who = Access(TOKEN, **access)
        made = open_house(
            models or Model(ScriptedBackend(script, context=20_000)), store, who, most_runs,
            page if page is not None else self.folder / "no-page", unattended, **(house or {}),
        )  # fmt: skip
        server = uvicorn.Server(
            uvicorn.Config(
                made.app, port=0, log_config=None, access_log=False, ws="none", http=Connection
            )
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"authorization": f"Bearer {TOKEN}"}
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)

        def stop() -> None:
            client.close()
            made.house.jobs.stop()
            server.should_exit = True
            thread.join(15)
            store.close()

        self.stops.append(stop)
        return Served(made.house, who, port, client)

    def stop(self) -> None:
        for stop in self.stops:
            stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """`serve(script=..., most_runs=...)` starts a server of the test's own."""
    servers = Servers(tmp_path)
    yield servers.start
    servers.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over the scripted backend that the tests of a file share."""
    servers = Servers(tmp_path_factory.mktemp("served"))
    yield servers.start()
    servers.stop()
