"""Do many readers at once get every event, once and in order?

    python -m bench.server --json

One server over the scripted backend, in a process of its own. ``--streams`` readers watch
``--runs`` runs (64 and 8); 10 % of them leave every so often and join again with
``Last-Event-ID``. ``events_per_s`` counts what reaches the readers (budget 3,000), ``made_per_s``
what the runs tell; ``lost``, ``doubled`` and ``turned`` count tokens and event numbers (budget 0).
Then ``--leavers`` readers connect and leave (``leavers_left`` connections stay: 0). At last a long
run goes on for ``--stall`` seconds while 20 readers that never read look on, and come back as soon
as they are cut off: ``stall_mib`` is what the server grows by over what the same number of tokens
takes with no reader (``alone_mib_per_1000``, seen before for a fifth of the time; budget 64),
``stalled_left`` the connections that are still open a minute after the last came (0).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

KEY = "0123456789abcdef" * 4
SLOW_FROM = 2000  # tokens from which on a run goes at a pace that lasts
BUDGET = {"events_per_s": 3000.0, "stall_mib": 64.0}


def serve(folder: Path, port: int, runs: int) -> None:
    """The server's own process: a scripted model that never ends by itself."""
    import uvicorn

    from tokenscope.backends.scripted import ScriptedBackend, hashed
    from tokenscope.runs.model import Model
    from tokenscope.server.access import Access
    from tokenscope.server.app import open_house
    from tokenscope.server.connection import Connection
    from tokenscope.server.heap import few_arenas
    from tokenscope.store import Store

    def script(ids: Any) -> Any:
        if len(ids) > SLOW_FROM:
            time.sleep(0.1)
        logits = hashed(ids)
        logits[256] = -50.0
        return logits

    few_arenas()
    model = Model(ScriptedBackend(script, context=1 << 20))
    made = open_house(model, Store(folder), Access(KEY), runs)
    uvicorn.run(made.app, port=port, log_config=None, ws="none", http=Connection)


@dataclass
class Reader:
    """One reader of one run."""

    run: str
    joins: bool
    numbers: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    joined: int = 0

    async def read(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """To the end of the run, leaving now and then."""
        seen, over = "", False
        while not over:
            leave = chance.randrange(10, 80) if self.joins else -1
            self.joined += 1
            headers = {"last-event-id": seen} if seen else {}
            async with client.stream(
                "GET", f"/api/events?run={self.run}", headers=headers
            ) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("id: "):
                        name = line[4:]
                    elif line.startswith("data: ") and '"event"' in line[:120]:
                        event = json.loads(line[6:])["event"]
                        self.numbers.append(int(name.rpartition("-")[2]))
                        seen, leave = name, leave - 1
                        if event["type"] == "step":
                            start = event["start"]
                            self.tokens += range(start, start + len(event["ids"]))
                        over = event["type"] in ("end", "error")
                        if over or leave == 0:
                            break


async def streams(client: httpx2.AsyncClient, n: int, runs: int, tokens: int) -> dict[str, Any]:
    """``n`` readers of ``runs`` runs."""
    session = (await client.post("/api/sessions", json={})).json()["id"]
    settings = {"max_new_tokens": tokens, "alternatives": 3, "attention": "none"}
    jobs = []
    begin = time.perf_counter()
    for i in range(runs):
        body = {"prompt": f"run {i}", "settings": {**settings, "seed": i, "temperature": 1.0}}
        job = (await client.post(f"/api/sessions/{session}/generate", json=body)).json()
        jobs.append(job["run"])
    readers = [Reader(jobs[i % runs], i % 10 == 0) for i in range(n)]
    await asyncio.gather(*(r.read(client, random.Random(i)) for i, r in enumerate(readers)))
    seconds = time.perf_counter() - begin
    events = sum(len(r.numbers) for r in readers)
    return {
        "streams": n, "runs": runs, "seconds": round(seconds, 2), "events": events,
        "events_per_s": round(events / seconds),
        "made_per_s": round(sum(len(r.numbers) for r in readers[:runs]) / seconds),
        "joined_again": sum(r.joined - 1 for r in readers),
        "lost": sum(len(set(range(max(r.tokens) + 1)) - set(r.tokens)) for r in readers),
        "doubled": sum(
            len(r.tokens) - len(set(r.tokens)) + len(r.numbers) - len(set(r.numbers))
            for r in readers
        ),
        "turned": sum(r.tokens != sorted(r.tokens) or r.numbers != sorted(r.numbers)
                      for r in readers),
    }  # fmt: skip


def ask(port: int, path: str) -> socket.socket:
    """A GET whose answer is not read."""
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    )
    return raw


def held(server: psutil.Process, port: int) -> int:
    """Connections of the server that stand."""
    return sum(
        c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port
        for c in server.net_connections("tcp")
    )


def until(what: Any, within: float) -> float:
    """Seconds until it is so."""
    begin = time.monotonic()
    while not what() and time.monotonic() - begin < within:
        time.sleep(0.05)
    return time.monotonic() - begin


def leavers(server: psutil.Process, port: int, n: int) -> dict[str, Any]:
    """Connect, ask, leave."""
    before = held(server, port)
    for _ in range(n):
        ask(port, "/api/events?session=x").close()
    until(lambda: held(server, port) <= before, 10)
    return {"leavers": n, "leavers_left": max(0, held(server, port) - before)}


def stalled(client: httpx2.Client, server: psutil.Process, port: int, seconds: float) -> Any:
    """20 readers that never read and come back when they are cut off, beside a long run."""
    session = client.post("/api/sessions", json={}).json()["id"]
    settings = {"max_new_tokens": 100_000, "alternatives": 50, "attention": "none"}
    body = {"prompt": "x", "settings": settings}
    job = client.post(f"/api/sessions/{session}/generate", json=body).json()

    def now() -> tuple[int, float]:
        """Tokens of the run, and MiB of the server."""
        told = client.get(f"/api/runs/{job['run']}").json()
        assert told["running"], "the run has ended: make it longer"
        return told["done"], server.memory_info().rss / 2**20

    until(lambda: now()[0] > SLOW_FROM, 120)
    first = now()
    time.sleep(seconds / 5)
    before, standing = now(), held(server, port)
    per = (before[1] - first[1]) / max(before[0] - first[0], 1)
    raws: list[socket.socket] = []
    came = 0
    most, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        open_now = held(server, port) - standing
        raws += [ask(port, f"/api/events?run={job['run']}") for _ in range(20 - open_now)]
        came += max(0, 20 - open_now)
        tokens, mib = now()
        most = max(most, mib - before[1] - per * (tokens - before[0]))
        time.sleep(0.5)
    until(lambda: held(server, port) <= standing, 60)
    left = held(server, port) - standing
    client.post(f"/api/runs/{job['run']}/cancel")
    for raw in raws:
        raw.close()
    return {
        "stall_s": seconds, "stalled_readers": came, "alone_mib_per_1000": round(1000 * per, 2),
        "stall_mib": round(most, 1), "stalled_left": max(0, left),
    }  # fmt: skip


def main() -> int:
    """All three; exit 1 when a budget is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--leavers", type=int, default=200)
    parser.add_argument("--stall", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(Path(given.serve[0]), int(given.serve[1]), int(given.serve[2]))
        return 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.server", "--serve", folder, str(port),
                   str(given.runs + 4)]  # fmt: skip
        process = subprocess.Popen(command, env=os.environ)
        headers = {"authorization": f"Bearer {KEY}"}
        address = f"http://127.0.0.1:{port}"
        try:
            with httpx2.Client(base_url=address, headers=headers, timeout=60) as client:
                until(lambda: _answers(client), 120)
                server = psutil.Process(process.pid)

                async def watch() -> dict[str, Any]:
                    limits = httpx2.Limits(max_connections=None)
                    async with httpx2.AsyncClient(
                        base_url=address, headers=headers, timeout=120, limits=limits
                    ) as many:
                        return await streams(many, given.streams, given.runs, given.tokens)

                found = asyncio.run(watch())
                found |= leavers(server, port, given.leavers)
                found |= stalled(client, server, port, given.stall)
        finally:
            process.terminate()
            process.wait(20)
    good = (
        found["events_per_s"] >= BUDGET["events_per_s"]
        and found["stall_mib"] <= BUDGET["stall_mib"]
        and not any(found[k] for k in ("lost", "doubled", "turned", "leavers_left", "stalled_left"))
    )
    found["ok"] = good
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{k:16} {v}" for k, v in found.items()))
    return 0 if good else 1


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/api/sessions").status_code == 200
    except httpx2.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
