"""A thousand completions of eight clients against a real server with its recorder: none is lost.

    python bench/recorder.py --requests 1000 --json

Every answer, streamed or whole, is compared with the branch that was recorded of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import openai

from tokenscope.store import Store

SNIPPETS = ("def add(a, b):", "for i in range(", "import os\n", "class Point:", "x = [")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--model", default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "tokenscope", "serve", "--port", "0", "--data", folder,
            "--recorder", "--recorder-rate", "1000000", "--json",
            *(["--model", given.model] if given.model else []),
        ]  # fmt: skip
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            said = ""
            while not said.rstrip().endswith("}") or said.count("{") != said.count("}"):
                line = server.stdout.readline()
                if not line:
                    raise SystemExit("the server did not start")
                said += line
            found = asked(json.loads(said)["recorder"], given)
        finally:
            server.terminate()
            server.wait(30)
        report = {**compared(found, Path(folder)), "exit": server.returncode}
    report |= {"clients": given.clients, "tokens_each": given.tokens}
    print(json.dumps(report, indent=1) if given.json else report)
    return 0 if report["lost"] == report["different"] == report["failed"] == 0 else 1


def asked(recorder: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Ask; request n has the seed n. Answers by seed, times in ms."""
    answers: dict[int, str] = {}
    times: list[float] = []
    failures: list[str] = []
    numbers = iter(range(given.requests))
    lock = threading.Lock()

    def work() -> None:
        with openai.OpenAI(base_url=recorder["url"], api_key=recorder["key"]) as client:
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return
                began = time.perf_counter()
                try:
                    made = client.completions.create(
                        model="tokenscope",
                        prompt=SNIPPETS[n % len(SNIPPETS)],
                        seed=n,
                        max_tokens=given.tokens,
                        stream=n % 2 == 0,
                    )
                    answers[n] = (
                        "".join(p.choices[0].text for p in made)
                        if n % 2 == 0
                        else made.choices[0].text
                    )
                except Exception as error:  # noqa: BLE001 (whatever it is, it counts)
                    failures.append(f"{n}: {error}"[:200])
                times.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(given.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return {"answers": answers, "times": times, "failures": failures, "seconds": seconds}


def compared(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The answers against what was kept."""
    store = Store(folder)
    kept: dict[int, str] = {}
    status: dict[str, int] = {}
    for session in store.sessions():
        for node in store.nodes(session.id):
            trace = store.trace(node.id)
            kept[trace.origin.seed or 0] = trace.generated
            status[node.status] = status.get(node.status, 0) + 1
    store.close()
    answers, times = found["answers"], sorted(found["times"])
    return {
        "requests": len(times), "answered": len(answers), "recorded": len(kept),
        "failed": len(found["failures"]), "failures": found["failures"][:3],
        "lost": len(set(answers) - set(kept)),
        "different": sum(answers[n] != kept.get(n, answers[n]) for n in answers),
        "status": status, "seconds": round(found["seconds"], 1),
        "requests_per_s": round(len(times) / found["seconds"], 1),
        "median_ms": round(median(times), 1), "p95_ms": round(times[int(len(times) * 0.95)], 1),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
