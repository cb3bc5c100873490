"""Does the server hold under clients that do as they please?

    python -m bench.soak --minutes 3 --json

A server with the bundled model in a process of its own; ``--clients`` at once generate, fork,
score, cancel, leave and join again, explain, export and delete at random. ``errors``: answers of
500 and above but for 503 (busy), events ``error``, and broken connections (budget 0);
``restarts``: whether the process ended (0); ``rss_start_mib`` is taken after a tenth of the time,
``rss_end_mib`` once all jobs are over; ``growth_mib`` has a budget of 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

import httpx2
import psutil

GROWTH_MIB = 200.0
PROMPTS = ("def total(items):\n", "import os\n\n\ndef read(path):\n    ", "class Point:\n    x = ")


class Client:
    """One client; ``did`` counts what it did, ``errors`` what went wrong."""

    def __init__(self, http: httpx2.AsyncClient, chance: random.Random) -> None:
        self.http = http
        self.chance = chance
        self.did: Counter[str] = Counter()
        self.errors: list[str] = []
        self.session = ""
        self.nodes: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """A request; 503 is an honest answer, other 5xx are errors."""
        answer = await self.http.request(method, f"/api/{path}", json=body)
        if answer.status_code >= 500 and answer.status_code != 503:
            self.errors.append(f"{method} {path}: {answer.status_code}")
        self.did[f"answer {answer.status_code}"] += 1
        return answer

    async def job(self, path: str, body: Any) -> None:
        """Begin a job; watch it to its end, in pieces, or leave it or stop it."""
        answer = await self.ask("POST", path, body)
        if answer.status_code != 202:
            return
        begun = answer.json()
        if begun["kind"] in ("generate", "fork", "score"):
            self.nodes.append(begun["node"])
        what = self.chance.random()
        if what < 0.15:
            self.did["left alone"] += 1
        elif what < 0.3:
            await asyncio.sleep(self.chance.random() * 0.3)
            await self.ask("POST", f"runs/{begun['run']}/cancel")
            self.did["cancelled"] += 1
        else:
            await self.watch(begun["run"])

    async def watch(self, run: str) -> None:
        """To the end; now and then it leaves and joins again."""
        seen = ""
        while True:
            leave = self.chance.randrange(3, 40) if self.chance.random() < 0.5 else -1
            headers = {"last-event-id": seen} if seen else {}
            async with self.http.stream("GET", f"/api/events?run={run}", headers=headers) as told:
                async for line in told.aiter_lines():
                    if line.startswith("id: "):
                        seen = line[4:]
                    elif line.startswith("data: "):
                        event = json.loads(line[6:]).get("event", {})
                        if event.get("type") == "error":
                            self.errors.append(f"event: {event['code']}: {event['message']}")
                        leave -= 1
                        if leave == 0:
                            break
                else:
                    return
            self.did["joined again"] += 1

    async def act(self) -> None:
        """One thing, at random."""
        pick = self.chance.choice
        if not self.session:
            self.session = (await self.ask("POST", "sessions", {})).json()["id"]
        n = self.chance.randrange(2, 120)
        settings = {"max_new_tokens": n, "attention": pick(["none", "top", "full"]),
                    "temperature": pick([0.0, 1.0]), "seed": n}  # fmt: skip
        doing = self.chance.random()
        if doing < 0.3 or not self.nodes:
            self.did["generate"] += 1
            body = {"prompt": pick(PROMPTS), "settings": settings}
            await self.job(f"sessions/{self.session}/generate", body)
        elif doing < 0.5:
            self.did["fork"] += 1
            body = {"at": self.chance.randrange(2, 8), "text": "x", "settings": settings}
            await self.job(f"nodes/{pick(self.nodes)}/fork", body)
        elif doing < 0.55:
            self.did["score"] += 1
            await self.job(f"sessions/{self.session}/score", {"text": pick(PROMPTS) * 9})
        elif doing < 0.62:
            self.did["explain"] += 1
            body = {"at": self.chance.randrange(1, 6), "tables": ["regions"]}
            await self.job(f"nodes/{pick(self.nodes)}/explain", body)
        elif doing < 0.85:
            self.did["read"] += 1
            path = pick(["", "/alternatives", "/structure", "/attention/3", "/heads?size=8"])
            await self.ask("GET", f"nodes/{pick(self.nodes)}{path}")
        elif doing < 0.92:
            self.did["export"] += 1
            form = pick(["json", "csv"])
            await self.ask("GET", f"sessions/{self.session}/export?format={form}")
        elif doing < 0.97:
            self.did["delete branch"] += 1
            await self.ask(
                "DELETE", f"nodes/{self.nodes.pop(self.chance.randrange(len(self.nodes)))}"
            )
        else:
            self.did["delete session"] += 1
            await self.ask("DELETE", f"sessions/{self.session}")
            self.session, self.nodes = "", []

    async def live(self, until: float) -> None:
        """Act until it is time."""
        while time.monotonic() < until:
            try:
                await self.act()
            except httpx2.TransportError as error:
                self.errors.append(f"connection: {type(error).__name__}")


async def soak(address: str, key: str, server: psutil.Process, n: int, seconds: float, seed: int
               ) -> dict[str, Any]:  # fmt: skip
    """All clients; the memory before, meanwhile and after."""
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=address, headers=headers, timeout=120, limits=limits
    ) as http:
        clients = [Client(http, random.Random(seed + i)) for i in range(n)]
        until = time.monotonic() + seconds
        living = [asyncio.create_task(one.live(until)) for one in clients]
        await asyncio.sleep(seconds / 10)
        start = most = server.memory_info().rss
        while not all(task.done() for task in living):
            most = max(most, server.memory_info().rss)
            await asyncio.sleep(0.5)
        for task in living:
            task.result()
        while any(job["running"] for job in (await http.get("/api/runs")).json()):
            await asyncio.sleep(0.2)
        await asyncio.sleep(1)
        end = server.memory_info().rss
    did: Counter[str] = sum((one.did for one in clients), Counter())
    errors = [e for one in clients for e in one.errors]
    return {
        "clients": n, "seconds": round(seconds), "did": dict(sorted(did.items())),
        "errors": len(errors), "first_errors": errors[:10], "rss_start_mib": _mib(start),
        "rss_most_mib": _mib(most), "rss_end_mib": _mib(end), "growth_mib": _mib(end - start),
    }  # fmt: skip


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def main() -> int:
    """Exit 1 when something went wrong."""
    parser = argparse.ArgumentParser(description="Random clients for a while.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0",
                   "--data", f"{folder}/data"]  # fmt: skip
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        said = json.loads(text)
        key = said["url"].partition("token=")[2]
        try:
            found = asyncio.run(soak(said["address"], key, psutil.Process(process.pid),
                                     given.clients, 60 * given.minutes, given.seed))  # fmt: skip
            found["restarts"] = int(process.poll() is not None)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        with open(f"{folder}/log") as log:
            found["logged_errors"] = sum(" ERROR " in f" {row}" for row in log)
    found["ok"] = not found["errors"] and not found["restarts"] and \
        found["growth_mib"] <= GROWTH_MIB  # fmt: skip
    print(json.dumps(found, indent=1) if given.json else
          "\n".join(f"{k:14} {v}" for k, v in found.items()))  # fmt: skip
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
