"""Does the server hold under clients that do as they please?

    python -m bench.soak --minutes 3 --json

A server with the bundled model in a process of its own, with ``--kept`` GiB for states, so that
what it keeps on purpose is full after a moment; ``--clients`` at once generate, fork, score,
cancel, leave and join again, explain, export and delete at random, with a pause of up to
``--pause`` seconds between two doings; a busy server (503) is asked again after a while.
``errors``: answers of 500 and above but for 503, events ``error``, and broken connections
(budget 0); ``restarts``: whether the process ended (0). Memory is looked at every second:
``rss_mib`` are the medians of twelve equal parts of the time, ``growth_mib`` is what the median of
the last third lies over that of the second third (the first fills what is kept; budget 64).
``secrets``: prompts carry ``SECRETS`` marks; ``secrets_in_the_log`` counts those in what the
server wrote to its log (0); ``first_logged``: the first error there; ``stop_s``: how long it took
to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets as chance
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

import httpx2
import psutil

TRACEBACK = 200  # lines that are shown of the first error in the log
GROWTH_MIB = 64.0
SECRETS = 50
PROMPTS = ("def total(items):\n", "import os\n\n\ndef read(path):\n    ", "class Point:\n    x = ")


class Client:
    """One client; ``did`` counts what it did, ``errors`` what went wrong."""

    def __init__(
        self, http: httpx2.AsyncClient, chance: random.Random, pause: float, secrets: list[str]
    ) -> None:
        self.http = http
        self.chance = chance
        self.pause = pause
        self.secrets = secrets
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
        if answer.status_code == 503:
            await asyncio.sleep(0.5 + self.chance.random())
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
            prompt = pick(PROMPTS) + (f"# {pick(self.secrets)}\n" if n % 5 == 0 else "")
            body = {"prompt": prompt, "settings": settings}
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
                await asyncio.sleep(self.pause * self.chance.random())
            except httpx2.TransportError as error:
                self.errors.append(f"connection: {type(error).__name__}")


async def soak(
    address: str, key: str, server: psutil.Process, given: argparse.Namespace, secrets: list[str]
) -> dict[str, Any]:
    """All clients; the memory meanwhile."""
    seconds = 60 * given.minutes
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=address, headers=headers, timeout=120, limits=limits
    ) as http:
        clients = [
            Client(http, random.Random(given.seed + i), given.pause, secrets)
            for i in range(given.clients)
        ]
        until = time.monotonic() + seconds
        living = [asyncio.create_task(one.live(until)) for one in clients]
        series: list[int] = []
        while not all(task.done() for task in living):
            series.append(server.memory_info().rss)
            await asyncio.sleep(1.0)
        for task in living:
            task.result()
    did: Counter[str] = sum((one.did for one in clients), Counter())
    errors = [e for one in clients for e in one.errors]
    return {
        "clients": given.clients, "seconds": round(seconds), "did": dict(sorted(did.items())),
        "errors": len(errors), "first_errors": errors[:10],
        "rss_mib": [_mib(_middle(part)) for part in _parts(series, 12)],
        "growth_mib": _mib(_middle(_parts(series, 3)[2]) - _middle(_parts(series, 3)[1])),
    }  # fmt: skip


def _parts(series: list[int], n: int) -> list[list[int]]:
    return [series[len(series) * i // n : len(series) * (i + 1) // n] for i in range(n)]


def _middle(part: list[int]) -> float:
    return statistics.median(part) if part else 0.0


def _mib(size: float) -> float:
    return round(size / 2**20, 1)


def main() -> int:
    """Exit 1 when something went wrong."""
    parser = argparse.ArgumentParser(description="Random clients for a while.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--kept", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0",
                   "--data", f"{folder}/data", "--kept-states", str(given.kept)]  # fmt: skip
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
            marks = [chance.token_hex(16) for _ in range(SECRETS)]
            watched = psutil.Process(process.pid)
            found = asyncio.run(soak(said["address"], key, watched, given, marks))
            found["restarts"] = int(process.poll() is not None)
        finally:
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(300)
            stopped = round(time.monotonic() - begin, 1)
        with open(f"{folder}/log") as log:
            written = log.read()
        lines = written.splitlines()
        wrong = [n for n, row in enumerate(lines) if " ERROR " in f" {row}"]
        found["logged_errors"] = len(wrong)
        found["first_logged"] = lines[wrong[0] : wrong[0] + TRACEBACK] if wrong else []
        found["stop_s"] = stopped
        found["secrets"] = SECRETS
        found["secrets_in_the_log"] = sum(mark in written for mark in [*marks, key])
    found["ok"] = found["growth_mib"] <= GROWTH_MIB and not any(
        found[k] for k in ("errors", "restarts", "logged_errors", "secrets_in_the_log")
    )
    print(json.dumps(found, indent=1) if given.json else
          "\n".join(f"{k:14} {v}" for k, v in found.items()))  # fmt: skip
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
