"""Figures of explorations, as JSON: ``PYTHONPATH=. python bench/explore.py memory|coverage``.

memory: 500 branches of 200 tokens over a 1,000-token prefix: what was told before the start, what
is held after it (memories by their blocks, each once; rows; the process), and that less is refused.
coverage: in how many of 100 small cases the Wilson interval covers the exhaustive truth.
"""

from __future__ import annotations

import json
import sys
import time

import psutil

import tokenscope as ts
from tokenscope.errors import CapacityError
from tokenscope.explore.asked import Ask
from tokenscope.runs.explore import Exploring

PREFIX, BRANCHES, TAIL = 1000, 500, 200


def memory(model_path: str | None = None, branches: int = BRANCHES) -> dict[str, object]:
    """The figures of one exploration; nothing is timed."""
    model = ts.load(model_path)
    text = "def f(x):\n    return x + 1\n\n" * 200
    ids = model.vocabulary.encode(text)
    prompt = ids.slice(1 if ids.labels else 0, PREFIX).text
    trace = model.generate(prompt, max_new_tokens=0, attention="none")
    model.prefixes.clear()
    before = psutil.Process().memory_info().rss
    ask = Ask(width=64, depth=2, horizon=TAIL, most=branches)
    work = Exploring(model, trace, ask=ask, outcome="bytes")
    began = time.monotonic()
    peak = before
    for _ in work.waves():
        peak = max(peak, psutil.Process().memory_info().rss)
    found = work.result()
    rows = sum(
        r.part.tokens.ids.nbytes + sum(c.nbytes for c in r.part.columns.values())
        + (r.part.alternatives.ids.nbytes + r.part.alternatives.logprobs.nbytes)
        for r in found.rows if r.part.alternatives is not None
    )  # fmt: skip
    refused = None
    try:
        Exploring(model, trace, ask=ask, outcome="bytes", memory=work.cost.bytes // 2)
    except CapacityError as error:
        refused = str(error)
    return {
        "prefix": len(trace), "branches": len(found.branches),
        "tokens": found.spent.tokens, "told_bytes": work.cost.bytes,
        "memories_bytes": model.prefixes.nbytes, "rows_bytes": rows,
        "process_grew_bytes": peak - before,
        "alone_bytes": (len(trace) + TAIL) * model.info.state_bytes_per_token * branches,
        "refused_at_half": refused, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def coverage(cases: int = 100, draws: int = 60) -> dict[str, object]:
    """As ``tests/explore/test_sampled.py``, with more draws of two tokens."""
    from tests.explore.small import END, engine, every_text, letters
    from tokenscope.explore.intervals import wilson
    from tokenscope.runs.explore import explore

    made, covered = engine(heat=0.3), 0
    for case in range(cases):
        given = [int(i) for i in made.vocabulary.encode(f"{case}").ids]
        truth: dict[str, float] = {}
        for text, p in every_text(letters(heat=0.3), given, 2):
            key = "".join(chr(t) for t in text if t != END)
            truth[key] = truth.get(key, 0.0) + p
        found = explore(made, f"{case}", way="sampled", draws=draws, horizon=2,
                        outcome="bytes", sampler={"seed": 1000 * case})  # fmt: skip
        wanted = max(truth, key=lambda k: truth[k])
        outcome = next((o for o in found.outcomes if o.key == wanted), None)
        low, high = (outcome.low, outcome.high) if outcome else wilson(0, draws)
        covered += low <= truth[wanted] <= high
    return {"cases": cases, "draws": draws, "covered": covered}


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "memory"
    print(json.dumps(memory(*sys.argv[2:3]) if what == "memory" else coverage(), indent=1))
