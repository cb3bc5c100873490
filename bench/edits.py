"""Do edits keep their word over many runs, and can edited runs be made again?

    python -m bench.edits --json
    python -m bench.edits --kind "viable Python" --replays 0 --json

``kinds``: the fuzzed cases of ``tests/decode/test_masks.py`` with ``--runs`` seeds a kind (viable
Python: half), each kind in a process of its own, ``--jobs`` at a time; a kind ends at its first
violation, which is told ("": none).

``replays``: ``--replays`` random edited runs of the bundled model (bans and biases of tokens and
strings, expressions, viable Python; ablations, steering, weighed attention), some of them branches;
``differ`` counts those whose ids are not the same again (0), ``worst`` is the largest difference of
a column, relative to max(1, |value|), and ``columns`` that of every column.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

import tokenscope as ts
from tests.decode import test_masks as masks
from tests.worded import Worded
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.runs.generate import Settings, fork, generate
from tokenscope.runs.model import Model
from tokenscope.runs.replay import replay
from tokenscope.trace.edits import Standing

FUZZED = {
    "banned strings": masks.test_fuzzed_bans, "required strings": masks.test_fuzzed_requirements,
    "expressions": masks.test_fuzzed_expressions,
    "JSON and grammars": masks.test_fuzzed_json_and_grammars,
    "viable Python": masks.test_fuzzed_programs, "forbidden code": masks.test_fuzzed_code_bans,
}  # fmt: skip
PROMPTS = (
    "def f(x):\n",
    "import os\n\n\ndef read(path):\n    ",
    "for i in range(3):\n",
    "x = [1, ",
)


def fuzzed(name: str, runs: int) -> dict[str, Any]:
    """One kind, ``runs`` times; "" where all kept their word, else what did not."""
    masks.RUNS = runs
    begin = time.monotonic()
    try:
        FUZZED[name](Engine(Worded()))
        said = ""
    except AssertionError as error:
        said = str(error)[:300] or "violated"
    seconds = round(time.monotonic() - begin, 1)
    print(f"{name}: {said or 'none'} ({seconds} s)", file=sys.stderr, flush=True)
    return {"violation": said, "seconds": seconds}


def all_fuzzed(names: Sequence[str], runs: int, jobs: int) -> dict[str, Any]:
    """Every kind, by name."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn) as pool:
        return dict(zip(names, pool.map(fuzzed, names, [runs] * len(names)), strict=True))


def random_edit(model: Model, chance: np.random.Generator, vector: str) -> Standing:
    """One of any kind."""
    e, info = ts.edits, model.info
    layer = int(chance.integers(info.layers or 1))
    head = int(chance.integers(info.heads or 1))
    ids = tuple(int(i) for i in chance.integers(0, info.vocab or 1, 3))
    word = str(chance.choice(["return", "self", "    ", "(", "ä"]))
    made: list[Standing] = [
        e.Ban(ids), e.Bias(ids, float(chance.normal(0, 3))), e.BanText((word,)),
        e.BiasText((word,), float(chance.normal(0, 2))), e.Regex(r"[^x]{1,200}"), e.Viable(),
        e.Ablate("head", layer, head), e.Ablate("mlp", layer),
        e.Ablate("attention", layer, how="mean", reference="import os\nimport sys\n"),
        e.Steer(vector, float(chance.normal(0, 1))), e.Attend(0.0, tokens=((0, 2),)),
    ]  # fmt: skip
    return made[int(chance.integers(len(made)))]


def replayed(runs: int, seed: int = 0) -> dict[str, Any]:
    """Random edited runs, made again."""
    model = ts.load()
    chance = np.random.default_rng(seed)
    vector = model.steering_vector(["x = 1\n", "y = 2\n"], ["import os\n", "import re\n"], layer=2)
    differ, stuck = 0, 0
    kinds: dict[str, int] = {}
    columns: dict[str, float] = {}
    at: dict[str, list[str]] = {}
    for n in range(runs):
        edits = tuple(random_edit(model, chance, vector.digest) for _ in range(1 + n % 2))
        hot = float(chance.choice([0.0, 0.8]))
        settings = Settings(max_new_tokens=int(chance.integers(2, 16)), temperature=hot, seed=n,
                            edits=edits, attention="none")  # fmt: skip
        trace = generate(model, prompt=str(chance.choice(PROMPTS)), settings=settings).result()
        if n % 3 == 0 and len(trace) > trace.n_prompt:
            with suppress(InputError):  # what is put in breaks the edit: refused, rightly
                trace = fork(model, trace, trace.n_prompt, "pass", settings).result()
        stuck += trace.finish == "stuck"
        for edit in edits:
            kinds[edit.kind] = kinds.get(edit.kind, 0) + 1
        found = replay(model, trace)
        differ += found.differs_at is not None
        for name, value in found.columns.items():
            if np.isfinite(value) and value > columns.get(name, 0.0):
                columns[name], at[name] = value, [e.kind for e in edits]
    order = sorted(columns, key=lambda n: -columns[n])
    return {
        "replays": runs, "differ": differ, "worst": columns[order[0]],
        "columns": {n: {"most": columns[n], "edits": at[n]} for n in order}, "kinds": kinds,
        "stuck": stuck,
    }  # fmt: skip


def main() -> int:
    """Exit 1 where an edit did not keep its word or a run came out otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--kind", action="append", choices=list(FUZZED), help="only this (repeat)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {"runs": given.runs}
    if given.runs:
        found["kinds"] = all_fuzzed(given.kind or list(FUZZED), given.runs, given.jobs)
        found["violations"] = sum(bool(k["violation"]) for k in found["kinds"].values())
    if given.replays:
        found |= replayed(given.replays)
    print(json.dumps(found, indent=1) if given.json else
          "\n".join(f"{k:12} {v}" for k, v in found.items()))  # fmt: skip
    return 0 if not (found.get("violations") or found.get("differ")) else 1


if __name__ == "__main__":
    sys.exit(main())
