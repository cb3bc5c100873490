"""How long do parsing, aligning and rolling up take? And following a stream?

    python bench/structure.py --json

``align_rollup_ms``: 10,000 tokens of real Python aligned and rolled up at all nine levels, parse
included (budget 100 ms). ``megabyte_ms``: 1 MB parsed and aligned (budget 1,000 ms). ``follow``:
the share of the wall time that following a stream takes when a token comes every ``--step-ms``.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tokenscope.code.align import align
from tokenscope.code.follow import Follower
from tokenscope.code.parse import parse
from tokenscope.code.rollup import rollup
from tokenscope.trace.regions import LEVELS
from tokenscope.trace.tokens import Tokens

PIECE = re.compile(rb" ?\w{1,6}|\s+|[^\w\s]{1,3}|.", re.DOTALL)


def source(size: int) -> bytes:
    """Real Python of about ``size`` bytes."""
    text = b""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= size:
            break
    return text[:size]


def tokens_of(text: bytes, most: int | None = None) -> Tokens:
    """About what a byte-pair tokenizer makes of it."""
    pieces = [m.group() for m in PIECE.finditer(text)][:most]
    return Tokens.of(range(len(pieces)), pieces)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median time of ``work`` in ms. CPU time of this one thread: other work does not count."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - begin))
    return round(statistics.median(times), 2)


def follow(tokens: Tokens, step_ms: float) -> dict[str, float]:
    """Follow a stream of these tokens, one every ``step_ms``, in real time."""
    follower = Follower("python")
    updates = 0
    begin = time.perf_counter()
    for n, piece in enumerate(tokens.pieces(), 1):
        while time.perf_counter() - begin < n * step_ms / 1e3:
            time.sleep(0.0005)
        follower.append(piece)
        updates += follower.poll() is not None
    elapsed = time.perf_counter() - begin
    return {
        "tokens": len(tokens), "step_ms": step_ms, "updates": updates,
        "share": round(follower.spent / elapsed, 4),
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tokens = tokens_of(source(60_000), 10_000)
    values = np.linspace(0, 5, len(tokens)).astype(np.float32)

    def whole() -> None:
        cells = align(tokens, parse(tokens.data, "python"))
        for by in LEVELS:
            rollup(cells, values, by)

    regions = parse(tokens.data, "python")
    cells = align(tokens, regions)
    megabyte = tokens_of(source(1_000_000))
    result = {
        "tokens": len(tokens),
        "regions": len(regions),
        "parse_ms": median_ms(lambda: parse(tokens.data, "python"), options.repeats),
        "align_ms": median_ms(lambda: align(tokens, regions), options.repeats),
        "rollup_statement_ms": median_ms(lambda: rollup(cells, values), options.repeats),
        "align_rollup_ms": median_ms(whole, options.repeats),
        "megabyte_ms": median_ms(lambda: align(megabyte, parse(megabyte.data, "python")), 5),
        "follow": follow(tokens_of(tokens.data, 1_000), options.step_ms),
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
