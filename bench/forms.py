"""One model in every form: speed against transformers' plain float32 ``generate``, and peak memory.

``python -m bench.forms --json [--model smollm2] [--forms int8,gguf] [--into FILE] [--seconds 60]``

``plain`` is ``transformers`` alone (float32, sdpa, greedy, with cache). Each form is measured
beside it: both live in processes of their own, loaded once, and take turns, so that a slow minute
of the machine meets both; after ``--seconds`` and three rounds no further one begins. The others
decode the same prompt with TokenScope: ``recorded`` with all columns, ten alternatives and the
attention rows of every head, ``bare`` without alternatives and rows; neither speculates. Peaks are
those of the whole process (VmHWM), of llama.cpp's worker too. ``--into`` keeps what was measured
after every form, and leaves out the forms that it already holds. GGUF rows need the extra and
``tokenscope models get smollm2``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPT = (
    "def read_table(path, separator=','):\n    rows = []\n    with open(path) as file:\n"
    "        for line in file:\n"
)
LEAST = 3  # rounds
FORMS = ("float32", "int8", "gguf")


def peak() -> int:
    """Bytes of this process and those below it, at their peaks."""
    import psutil

    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                total += int(line.split()[1]) * 1024
    return total


def serve(form: str, address: str, tokens: int) -> None:
    """A child: load, then one JSON line for every line read."""
    run: Any
    if form == "plain":
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from tokenscope.library.fetched import place, takes

        folder = place(address) if takes(address) else address
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        given = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")

        def run() -> dict[str, int]:
            with torch.inference_mode():
                out = module.generate(**given, max_new_tokens=tokens, min_new_tokens=tokens,
                                      do_sample=False)  # fmt: skip
            return {"plain": out.shape[1] - given.input_ids.shape[1]}
    else:
        import tokenscope as ts

        dtype = None if form == "gguf" else form
        model = ts.load(address + (":gguf" if form == "gguf" else ""), dtype=dtype)
        settings: dict[str, Any] = {"max_new_tokens": tokens, "speculate": "none"}

        def one(name: str, **more: Any) -> tuple[str, float]:
            began = time.perf_counter()
            trace = model.generate(PROMPT, **settings, **more)
            return name, (len(trace) - trace.n_prompt) / (time.perf_counter() - began)

        def run() -> dict[str, float]:
            return dict([one("recorded"), one("bare", alternatives=0, attention="none")])

    run()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        told = run()
        if form == "plain":
            told = {"plain": told["plain"] / (time.perf_counter() - began)}
        print(json.dumps({**told, "peak": peak()}), flush=True)


def beside_plain(form: str, model: str, tokens: int, seconds: float) -> dict[str, Any]:
    """Speeds in tokens a second (medians), their ratios round by round, and peaks in MB."""
    began = time.monotonic()
    own = [sys.executable, "-m", "bench.forms", "--model", model, "--tokens", str(tokens)]
    children = {
        name: subprocess.Popen([*own, "--child", name], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
        for name in ("plain", form)
    }  # fmt: skip
    held: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    for child in children.values():
        assert child.stdout is not None
        if not child.stdout.readline():
            raise SystemExit(f"{form}: a child ended with {child.wait()}")
    rounds = 0
    while rounds < LEAST or time.monotonic() - began < seconds:
        rounds += 1
        for name, child in children.items():
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            peaks[name] = round(told.pop("peak") / 1e6)
            for kind, rate in told.items():
                held.setdefault(kind, []).append(rate)
    for child in children.values():
        assert child.stdin is not None
        child.stdin.close()
        child.wait(30)
    plain = held["plain"]
    return {
        "rounds": rounds, "tokens": tokens, "peak_mb": peaks[form], "plain_peak_mb": peaks["plain"],
        "tokens_per_s": {k: round(statistics.median(v), 2) for k, v in held.items()},
        "against_plain": {
            k: round(statistics.median(a / b for a, b in zip(v, plain, strict=True)), 2)
            for k, v in held.items() if k != "plain"
        },
    }  # fmt: skip


def main() -> int:
    """Run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="no round begins after that")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--into", type=Path, help="a file that keeps what was measured")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(options.child, options.model, options.tokens)
        return 0
    found: dict[str, Any] = {}
    if options.into is not None and options.into.is_file():
        found = json.loads(options.into.read_text())
    for form in options.forms.split(","):
        if form in found:
            continue
        found[form] = beside_plain(form, options.model, options.tokens, options.seconds)
        if options.into is not None:
            options.into.write_text(json.dumps(found))
    print(json.dumps({"model": options.model, "forms": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
