"""Figures of audits as JSON: ``python bench/audit.py bandit|hostile|kills|processes``.

bandit     bandit's own example files (its source archive, fetched through pip): how many of the
           findings that bandit's program reports are found here at exactly the same place, and in
           files that break off at random places behind the finding
hostile    a file of a million lines, most of them no prompts: lines a second, peak memory
kills      an audit killed N times at random, then finished: is the journal the whole one's?
processes  the same audit by one and by two processes, one thread each
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

VERSION = "1.9.4"


def bandit(cuts: int) -> dict[str, Any]:
    from tokenscope.evidence.check import Code, find
    from tokenscope.trace.tokens import Tokens

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "bandit",
             "-d", folder, f"bandit=={VERSION}"],
            check=False, capture_output=True,
        )  # fmt: skip
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        examples = Path(folder) / f"bandit-{VERSION}" / "examples"
        done = subprocess.run(
            [str(Path(sys.executable).parent / "bandit"), "-q", "-r", str(examples), "-f", "json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        expected: dict[str, list[dict[str, Any]]] = {}
        for result in json.loads(done.stdout)["results"]:
            expected.setdefault(result["filename"], []).append(result)
        rng = random.Random(0)
        whole = exact = cut = cut_exact = 0
        for name, results in sorted(expected.items()):
            data = Path(name).read_bytes()
            tokens = random_tokens(data, rng)
            starts = line_starts(data)
            found = find(Code(data, "python", True), ["bandit"], tokens=tokens).findings
            have = [(f.rule.split("/")[1], f.start, f.end, f.tokens) for f in found]
            ends = {}
            for r in results:
                whole += 1
                place = (starts[r["line_range"][0] - 1], r["test_id"])
                hit = [h for h in have if h[0] == r["test_id"] and same(h, r, starts, tokens)]
                exact += bool(hit)
                if hit:
                    ends[place] = hit[0]
            for _, start, end, _ in list(ends.values())[:cuts]:
                if end >= len(data) - 1:
                    continue
                cut += 1
                at = rng.randrange(end, len(data))
                part = find(Code(data[:at], "python", False), ["bandit"]).findings
                cut_exact += any(f.start == start and f.end == end for f in part)
        return {
            "files": len(expected), "expected": whole, "exact": exact,
            "share": round(exact / whole, 4), "prefixes": cut, "prefixes_exact": cut_exact,
            "prefix_share": round(cut_exact / max(cut, 1), 4), "tokens_of": Tokens.__name__,
        }  # fmt: skip


def same(have: Any, result: dict[str, Any], starts: list[int], tokens: Any) -> bool:
    """Whether a finding lies where bandit's program says, and its tokens hold just these bytes.

    The program tells the line and column of a node's start, the column of its end, and its lines.
    """
    _, start, end, held = have
    lines = result["line_range"]
    first = starts[lines[0] - 1] + result["col_offset"]
    lasts = {starts[n - 1] + result["end_col_offset"] for n in (*lines, lines[0])}
    if result["end_col_offset"] <= 0:  # a check of the whole file tells no end
        lasts = {end}
    inside = [t.index for t in tokens if t.start < end and start < t.end]
    return start == first and end in lasts and list(range(*held)) == inside


def random_tokens(data: bytes, rng: random.Random) -> Any:
    from tokenscope.trace.tokens import Tokens

    pieces, at = [], 0
    while at < len(data):
        size = rng.randrange(1, 8)
        pieces.append(data[at : at + size])
        at += size
    return Tokens.of(range(len(pieces)), pieces)


def line_starts(data: bytes) -> list[int]:
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return [*starts, len(data)]


def hostile(lines: int) -> dict[str, Any]:
    import tokenscope as ts

    rng = random.Random(0)
    kinds = [b"not json", b'{"prompt": "\xff"}', b'{"text_": 1}', b'{"id": "same", "prompt": "x"}',
             b'{"prompt": 3}', b"[" * 500, b'{"prompt": "\\ud800"}', b"\0" * 40]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, good = Path(folder) / "p.jsonl", 0
        with open(path, "wb") as out:
            for n in range(lines):
                if n % (lines // 4 or 1) == 7:
                    out.write(b'{"id": "good%d", "prompt": "x = "}\n' % n)
                    good += 1
                elif n % 100_000 == 50:
                    out.write(b'"' + b"y" * (2 << 20) + b'"\n')
                else:
                    out.write(rng.choice(kinds) + b"\n")
        model = ts.load()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        made = ts.audit(path, model=model, policy={"on_error": "skip"}, out=Path(folder) / "o",
                        max_new_tokens=2)  # fmt: skip
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lines_told = (Path(folder) / "o" / "errors.jsonl").read_text().splitlines()
        numbers = [json.loads(x)["line"] for x in lines_told]
        return {
            "lines": lines, "good": good, "done": len(made.samples), "errors": len(numbers),
            "every_line_named": len(set(numbers)) + good >= lines * 0.99, "exit": made.exit_code,
            "seconds": round(seconds, 1), "lines_per_s": round(lines / seconds),
            "peak_growth_mb": round((after - before) / 1024, 1),
            "report_kb": round((Path(folder) / "o" / "report.html").stat().st_size / 1024),
        }  # fmt: skip


def command(folder: Path, prompts: int, out: str, *more: str) -> list[str]:
    path = folder / "p.jsonl"
    if not path.exists():
        path.write_text("".join(
            json.dumps({"prompt": f"def f{n}(x):\n    "}) + "\n" for n in range(prompts)
        ))  # fmt: skip
    return [sys.executable, "-m", "tokenscope", "audit", str(path), "--out", str(folder / out),
            "--samples", "2", "-n", "12", "--formats", "jsonl", *more]  # fmt: skip


def kills(times: int) -> dict[str, Any]:
    from tokenscope.evidence.records import read_records

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder, rng, deaths = Path(name), random.Random(0), 0
        whole = command(folder, 4 * times, "whole")
        subprocess.run(whole, env=env, check=True, capture_output=True)
        size = (folder / "whole" / "records.jsonl").stat().st_size
        journal = folder / "killed" / "records.jsonl"
        for _ in range(times):
            process = subprocess.Popen(command(folder, 0, "killed"), env=env,
                                       stderr=subprocess.DEVNULL)  # fmt: skip
            held = journal.stat().st_size if journal.exists() else 0
            until = held + rng.randrange(1, max(2, size // times))
            while process.poll() is None and (
                journal.stat().st_size if journal.exists() else 0) < until:  # fmt: skip
                time.sleep(0.001)
            time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            deaths += process.wait() == -signal.SIGKILL
        subprocess.run(command(folder, 0, "killed"), env=env, check=True, capture_output=True)
        a, b = (list(read_records(folder / o)[1]) for o in ("whole", "killed"))
        return {"kills": deaths, "cases": len(a), "cases_after": len(b), "same": a == b}


def processes(prompts: int) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder, took = Path(name), {}
        for n in (1, 2):
            run = command(folder, prompts, f"o{n}", "--processes", str(n))
            began = time.monotonic()
            subprocess.run(run, env=env, check=True, capture_output=True)
            took[n] = time.monotonic() - began
        began = time.monotonic()
        subprocess.run(command(folder, 0, "o1", "--processes", "1"), env=env, check=True,
                       capture_output=True)  # fmt: skip
        start = time.monotonic() - began  # nothing left to do: what starting and reporting costs
        return {
            "prompts": prompts, "one_s": round(took[1], 2), "two_s": round(took[2], 2),
            "start_s": round(start, 2), "speed_up": round(took[1] / took[2], 3),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["bandit", "hostile", "kills", "processes"])
    parser.add_argument("--number", type=int, default=0, help="prefixes a file, lines, kills ...")
    given = parser.parse_args()
    n = given.number
    made = {
        "bandit": lambda: bandit(n or 5), "hostile": lambda: hostile(n or 1_000_000),
        "kills": lambda: kills(n or 50), "processes": lambda: processes(n or 300),
    }[given.what]()  # fmt: skip
    print(json.dumps(made))


if __name__ == "__main__":
    main()
