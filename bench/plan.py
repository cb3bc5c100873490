"""Is the planner right? Its estimate against the peak of a fresh process, for each way of loading.

``python -m bench.plan --json [--tokens 528]``

Every row loads a model in a process of its own, reads a prompt and writes 16 tokens with all
columns, and compares the peak (VmHWM, of the process and of llama.cpp's worker) with what
``tokenscope plan`` said before. Nothing is kept between the rows, so int8 measures its quality. The
last row is a random Llama whose weights, as float32, are twice the ceiling that it is given.
SmolLM2's rows need ``tokenscope models get smollm2``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = """
import json, os, sys, time
from pathlib import Path
address, dtype, ceiling, tokens = json.loads(sys.argv[1])
import psutil
import tokenscope as ts
began = time.monotonic()
model = ts.load(address, dtype=dtype, max_memory=ceiling)
loaded = time.monotonic()
text = "def f(x):\\n    return x + 1\\n" * 800
count = len(model.backend.encode(text[:2600]).ids)
trace = model.generate(text[: int(2600 * (tokens - 16) / count)], max_new_tokens=16)
written = time.monotonic()
peaks = []
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            peaks.append(int(line.split()[1]) * 1024)
print(json.dumps([peaks, len(trace), loaded - began, written - loaded, list(model.info.notes)]))
"""


def twice(folder: Path) -> Path:
    """A random Llama of 503 M parameters, stored as bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tokenscope.backends.hf.load import BUNDLED

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=1280, intermediate_size=3520, num_hidden_layers=28,
        num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, folder / name)
    return folder


def measure(name: str, address: str, dtype: str | None, ceiling: int | None,
            tokens: int, cache: Path) -> dict[str, Any]:  # fmt: skip
    """One loading."""
    from tokenscope.library.fetched import place, takes
    from tokenscope.library.plan import plan

    if takes(address):  # the child has a cache of its own, in which nothing was fetched
        address = str(place(address))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([address, dtype, ceiling, tokens])],
        capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    if done.returncode:
        return {"loading": name, "failed": done.stderr.strip().splitlines()[-1][:300]}
    peaks, length, load_s, run_s, notes = json.loads(done.stdout.splitlines()[-1])
    found = plan(address, length, ceiling)
    way = dtype or found.chosen
    estimate = next(c.need.total for c in found.choices if c.way == way)
    if ceiling is not None:
        estimate = ceiling
    over = round(100 * (estimate / sum(peaks) - 1), 1)
    return {
        "loading": name, "tokens": length, "estimate_mb": round(estimate / 1e6),
        "peak_mb": round(sum(peaks) / 1e6), "over_percent": over,
        "load_s": round(load_s, 1), "run_s": round(run_s, 1), "notes": notes,
    }  # fmt: skip


def main() -> int:
    """Run, print; exit 1 when an estimate is below its peak or more than 15 % above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--tokens", type=int, default=528)
    parser.add_argument("--only", default="", help="names of loadings, with commas between")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        loadings: list[tuple[str, str, str | None, int | None]] = [
            ("bundled float32", "bundled", "float32", None),
            ("smollm2 float32", "smollm2", "float32", None),
            ("smollm2 bfloat16", "smollm2", "bfloat16", None),
            ("smollm2 int8", "smollm2", "int8", None),
            ("smollm2 gguf", "smollm2:gguf", None, None),
            ("twice the ceiling", str(Path(place) / "large"), "float32", 1_006_000_000),
        ]
        for name, address, dtype, ceiling in loadings:
            if options.only and name not in options.only.split(","):
                continue
            if ceiling is not None:
                twice(Path(address))
            row = measure(
                name,
                address,
                dtype,
                ceiling,
                options.tokens if not ceiling else 64,
                Path(place) / name,
            )
            rows.append(row)
            print({k: v for k, v in row.items() if k != "notes"}, file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    ceiled = [r for r in rows if r["loading"].startswith("twice")]
    good = all(0 <= r.get("over_percent", -1) <= 15 for r in rows if r not in ceiled)
    return 0 if good and all(r.get("over_percent", -1) >= 0 for r in ceiled) else 1


if __name__ == "__main__":
    sys.exit(main())
