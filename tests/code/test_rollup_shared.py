"""Page and server roll up alike: one fixture, made here, read by `web/tests/rollup.test.ts`.

Written again by ``python -m tests.code.test_rollup_shared``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope.code.align import align
from tokenscope.code.parse import parse
from tokenscope.code.rollup import rollup
from tokenscope.trace.regions import LEVEL_BITS
from tokenscope.trace.tokens import Tokens

FILE = Path(__file__).parents[2] / "web/tests/rollup.json"
SOURCE = (
    b"def f(items, n):\n    total = 0\n    for x in items:\n        if x > n: total += x\n"
    b"    return total\n"
)
NAMES = ("mean", "std", "min", "max", "sum", "top")


def made() -> dict[str, Any]:
    """Structure, values and roll-ups of a text in tokens of 1 to 5 bytes. The values lie far from
    zero: a variance by the difference of two large sums loses all its digits there."""
    chance = np.random.default_rng(0)
    pieces, at = [], 0
    while at < len(SOURCE):
        n = int(chance.integers(1, 6))
        pieces.append(SOURCE[at : at + n])
        at += n
    tokens = Tokens.of(list(range(len(pieces))), pieces)
    cells = align(tokens, parse(SOURCE, "python"))
    r = cells.regions
    values = (1e4 + chance.normal(size=len(pieces)) * 1e-2).astype(np.float32)
    values[0] = np.nan
    rows = {}
    for level in ("expression", "statement", "function", "file"):
        found = rollup(cells, values, level, part="all")
        rows[level] = [
            {"region": int(g), "count": int(found.count[i])}
            | {name: float(getattr(found, name)[i]) for name in NAMES}
            for i, g in enumerate(found.groups.region) if found.count[i]
        ]  # fmt: skip
    return {
        "structure": {
            "language": "python", "tokens": len(pieces), "kinds": list(r.kinds),
            "kind": r.kind.tolist(), "level": r.level.tolist(), "category": r.category.tolist(),
            "start": r.start.tolist(), "end": r.end.tolist(), "parent": r.parent.tolist(),
            "error": [], "missing": [], "names": {}, "cell_start": cells.start.tolist(),
            "cell_token": cells.token.tolist(), "cell_region": cells.region.tolist(),
            "cell_category": cells.category.tolist(), "cost_ms": 0,
        },
        "bits": {level: int(LEVEL_BITS[level]) for level in rows},
        "values": [None if np.isnan(v) else float(v) for v in values],
        "rows": rows,
    }  # fmt: skip


def test_the_fixture_is_what_is_computed() -> None:
    held = json.loads(FILE.read_text())
    now = json.loads(json.dumps(made()))
    assert held["structure"] == now["structure"] and held["values"] == now["values"]
    for level, rows in now["rows"].items():
        assert len(rows) == len(held["rows"][level]) > 0
        for a, b in zip(rows, held["rows"][level], strict=True):
            assert a.keys() == b.keys() and a["region"] == b["region"]
            np.testing.assert_allclose([a[n] for n in NAMES], [b[n] for n in NAMES], rtol=1e-9)


def test_spreads_far_from_zero_are_right() -> None:
    found = made()
    values = np.array([np.nan if v is None else v for v in found["values"]])
    whole = found["rows"]["file"][0]
    weights = np.diff(found["structure"]["cell_start"])
    v = values[found["structure"]["cell_token"]]
    keep = np.isfinite(v)
    mean = np.average(v[keep], weights=weights[keep])
    std = np.sqrt(np.average((v[keep] - mean) ** 2, weights=weights[keep]))
    np.testing.assert_allclose([whole["mean"], whole["std"]], [mean, std], rtol=1e-7)


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=0, separators=(",", ":")) + "\n")
