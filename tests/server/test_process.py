"""The server as a process of its own, with the bundled model: kill -9, restart, clean stop."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest


@dataclass
class Process:
    """A running `tokenscope serve --json`."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    @property
    def client(self) -> httpx2.Client:
        key = self.said["url"].partition("token=")[2]
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.said["address"], headers=headers, timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    running: list[subprocess.Popen[str]] = []

    def begin() -> Process:
        command = [sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0",
                   "--data", str(tmp_path / "data")]  # fmt: skip
        with open(tmp_path / "log", "a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        running.append(process)
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                return Process(process, json.loads(text))
        raise AssertionError((tmp_path / "log").read_text())

    yield begin
    for process in running:
        process.kill()
        process.wait()


def until_it_breaks(answer: httpx2.Response) -> Iterator[str]:
    """Lines, until the server is no more."""
    with contextlib.suppress(httpx2.TransportError):
        yield from answer.iter_lines()


def following(client: httpx2.Client, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Begin a job and give its events, until it ends or the server is no more."""
    begun = client.post(path, json=body)
    assert begun.status_code == 202, begun.text
    with client.stream("GET", "/api/events", params={"run": begun.json()["run"]}) as answer:
        for line in until_it_breaks(answer):
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if "event" in message:
                yield message["event"]


def test_kill_9_keeps_what_was_sent_and_a_stop_is_clean(
    start: Callable[[], Process], tmp_path: Path
) -> None:
    first = start()
    session = first.client.post("/api/sessions", json={}).json()["id"]
    seen: list[int] = []
    body = {"prompt": "def f(x):\n", "settings": {"max_new_tokens": 1500}}
    for event in following(first.client, f"/api/sessions/{session}/generate", body):
        if event["type"] == "step":
            seen += event["ids"]
        assert event["type"] not in ("end", "error"), "it was too fast for this test"
        if len(seen) >= 30:
            first.process.kill()  # SIGKILL
    assert first.process.wait() == -signal.SIGKILL

    second = start()
    client = second.client
    (node,) = client.get(f"/api/sessions/{session}").json()["nodes"]
    assert node["status"] == "interrupted"
    whole = client.get(f"/api/nodes/{node['id']}").json()
    assert whole["ids"][: len(seen)] == seen
    assert whole["origin"]["model_digest"] == client.get("/api/model").json()["model_digest"]
    assert len(whole["columns"]) >= 10
    change = {"at": len(seen) - 5, "token_id": seen[0] + 1, "settings": {"max_new_tokens": 3}}
    *_, last = following(client, f"/api/nodes/{node['id']}/fork", change)
    assert last["type"] == "end"

    # a signal in the middle of a run: the stream ends, the branch is kept, the exit is clean
    kinds = []
    for event in following(client, f"/api/sessions/{session}/generate", body):
        kinds.append(event)
        if len(kinds) == 20:
            second.process.send_signal(signal.SIGTERM)
    assert (kinds[-1]["type"], kinds[-1]["finish"]) == ("end", "cancelled")
    assert second.process.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert first.said["url"].partition("token=")[2] not in log
