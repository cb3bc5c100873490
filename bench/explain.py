"""What explanations cost: multiples of one forward, and the explorer's peak memory.

``python -m bench.explain --json [--model FOLDER] [--tokens 1000] [--explorer-tokens 2048]``

One forward is the model's own, over the same tokens, without a cache and with the logits of the
last position only. Every figure is the median of ``--repeats`` runs interleaved with forwards, so
that a busy machine slows both. Peak memory is measured in a fresh process each, as the growth of
its resident high-water mark over the loaded and warmed-up model.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

CONTRASTIVE_LIMIT = 4.0  # forwards
PICTURES = ("survey", "window", "rollout")


def ids_of(vocab: int, count: int) -> list[int]:
    """Random ids with repeats, as code has them."""
    random = np.random.default_rng(0)
    return [int(i) for i in random.integers(1, min(vocab, 400), count)]


def median_ratio(work: Callable[[], object], forward: Callable[[], object], repeats: int) -> Any:
    """Seconds of both, and the median of their paired ratios."""
    works, forwards = [], []
    work(), forward()
    for _ in range(repeats):
        for run, times in ((forward, forwards), (work, works)):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
    ratios = [w / f for w, f in zip(works, forwards, strict=True)]
    return {
        "seconds": statistics.median(works), "forward_seconds": statistics.median(forwards),
        "forwards": statistics.median(ratios),
    }  # fmt: skip


def costs(model: Any, tokens: int, repeats: int) -> dict[str, Any]:
    """Every method over ``tokens`` tokens in multiples of one forward."""
    from tokenscope.explain.gradients import input_x_gradient
    from tokenscope.explain.integrated import integrated_gradients
    from tokenscope.explain.lens import direct_logits, logit_lens
    from tokenscope.explain.perturb import attention_knockout, occlusion
    from tokenscope.explain.target import Target, ask
    from tokenscope.runs.explain import internals_of

    internals = internals_of(model)
    ids = ids_of(model.info.vocab, tokens + 1)
    asked = ask(internals, ids, Target(tokens, 5, 7))
    short = ask(internals, ids, Target(min(100, tokens), 5, 7))
    given = torch.tensor([ids[:tokens]])
    shorter = given[:, : short.n]
    module = model.backend.model

    def forward(inputs: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return module(inputs, use_cache=False, logits_to_keep=1)

        return run

    long, brief = forward(given), forward(shorter)
    return {
        "input_x_gradient_contrastive": median_ratio(
            lambda: input_x_gradient(asked), long, repeats
        ),
        "logit_lens": median_ratio(lambda: logit_lens(asked), long, repeats),
        "direct_logits": median_ratio(lambda: direct_logits(asked), long, repeats),
        "integrated_gradients_100_tokens": median_ratio(
            lambda: integrated_gradients(short), brief, 1
        ),
        "occlusion_100_tokens": median_ratio(lambda: occlusion(short), brief, 1),
        "attention_knockout_100_tokens": median_ratio(lambda: attention_knockout(short), brief, 1),
    }


def high_water() -> int:
    """Bytes of resident memory at most so far (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def peak(address: str | None, picture: str, tokens: int) -> dict[str, Any]:
    """Growth of the high-water mark by one picture over ``tokens`` tokens; for a fresh process."""
    import tokenscope as ts
    from tokenscope.explain import attention, heads
    from tokenscope.runs.explain import internals_of

    internals = internals_of(ts.load(address))
    ids = ids_of(int(internals.embedding_weight.shape[0]), tokens)
    heads.survey(internals, ids[:16])
    before = high_water()
    began = time.perf_counter()
    if picture == "survey":
        bound = heads.survey(internals, ids).estimate.total
    elif picture == "window":
        attention.window(internals, ids, internals.anatomy.attention_layers[-1], 0)
        bound = attention.check(internals, tokens, lambda n: n * n * 4).total
    else:
        attention.rollout(internals, ids)
        bound = attention.check(internals, tokens, lambda n: 3 * n * n * 4).total
    seconds = time.perf_counter() - began
    everything = tokens * tokens * 4 * len(internals.anatomy.attention_layers)
    return {
        "peak_bytes": high_water() - before, "estimate_bytes": bound, "seconds": seconds,
        "all_at_once_bytes": everything * internals.anatomy.heads,
    }  # fmt: skip


def main() -> int:
    """Run, print one document, fail when a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--model", default=None)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--explorer-tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", choices=PICTURES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(json.dumps(peak(options.model, options.peak, options.explorer_tokens)))
        return 0
    import tokenscope as ts

    model = ts.load(options.model)
    tokens = min(options.tokens, model.info.context - 1)
    explorer = min(options.explorer_tokens, model.info.context)
    made = costs(model, tokens, options.repeats)
    memory = {}
    for picture in PICTURES:
        command = [sys.executable, "-m", "bench.explain", "--peak", picture]
        command += ["--explorer-tokens", str(explorer)]
        command += ["--model", options.model] if options.model else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        memory[picture] = json.loads(done.stdout)
    ratio = made["input_x_gradient_contrastive"]["forwards"]
    bounded = all(m["peak_bytes"] <= m["estimate_bytes"] for m in memory.values())
    report = {
        "model": model.info.name, "parameters": model.info.parameters, "tokens": tokens,
        "explorer_tokens": explorer, "threads": torch.get_num_threads(), "cost": made,
        "explorer_memory": memory,
        "promises": {
            "contrastive_input_x_gradient_at_most_4_forwards": ratio <= CONTRASTIVE_LIMIT,
            "explorer_memory_within_its_estimate": bounded,
        },
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        for name, cost in made.items():
            print(f"{name:36} {cost['forwards']:8.2f} forwards  {cost['seconds']:8.3f} s")
        for name, used in memory.items():
            print(
                f"{name:36} {used['peak_bytes'] / 2**20:8.0f} MiB at most "
                f"{used['estimate_bytes'] / 2**20:.0f}  {used['seconds']:8.3f} s"
            )
    return 0 if all(report["promises"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
