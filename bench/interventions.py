"""Interventions on a model: what they find where the answer is known, and what they cost.

``python -m bench.interventions [--model FOLDER] [--steps 40] [--json]``

The prompts differ in one name that the answer repeats, so the map must hold: at the first layer
that token alone restores the answer, and later layers carry it to the end of the text. The lens is
fitted to a file of this package and judged on the fifth that was held out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tokenscope as ts

CLEAN, CORRUPT = "for i in range(n):\n    print(", "for k in range(n):\n    print("
PAIR: dict[str, Any] = {"token": "i", "contrast": "k"}
PROMPTS = [CLEAN, CORRUPT, "import os\nos.", "def add(a, b):\n    return a"]


def main() -> None:
    """Every intervention once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    model = ts.load(given.model)
    out: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], dict[str, Any]]) -> None:
        began = time.perf_counter()
        found = work()
        out[name] = {**found, "seconds": round(time.perf_counter() - began, 1)}
        if not given.json:
            print(name, out[name], flush=True)

    def patching() -> dict[str, Any]:
        made = model.patch_map(CLEAN, CORRUPT, **PAIR, parts=["residual", "heads"])
        share = made.effect("residual")
        return {
            "clean": made.map.clean, "corrupt": made.map.corrupt, "cost": str(made.map.cost),
            "first_layer_at_name": float(share[0, made.map.pair.same]),
            "before_last_layer_at_end": float(share[-1, -1]),
            "best_heads": made.to_pandas().query("part == 'heads'").nlargest(3, "effect")[
                ["layer", "head", "effect"]
            ].to_dict(orient="records"),
        }  # fmt: skip

    def tracing() -> dict[str, Any]:
        made = model.causal_trace(CLEAN, " i", **PAIR, draws=3, parts=["residual"])
        at = made.map.subject[0]
        return {"first_layer_at_subject": float(made.effect("residual")[0, at])}

    def repeats() -> dict[str, Any]:
        made = model.repeated_heads(draws=4, length=25)
        best = {n: float(np.nanmax(made.mean(n))) for n in made.scores}
        return {"gain": float(made.gain.mean()), **best}

    def paths() -> dict[str, Any]:
        return {"edges": model.path_effects(CLEAN, **PAIR, top=4).rows[:3]}

    def reference() -> dict[str, Any]:
        text = Path(ts.__file__).with_name("registry.py").read_text()[:1500]
        made = model.ablate_map(CLEAN, **PAIR, reference=[text])
        return {"note": made.note, "largest": made.rows[:3]}

    def lens() -> dict[str, Any]:
        text = Path(ts.__file__).with_name("registry.py").read_text()
        with tempfile.TemporaryDirectory() as folder:
            made = model.fit_lens(text, steps=given.steps, batch=16, rate=2e-3, folder=Path(folder))
        return {
            "held_out": made.held_out, "logit_kl": made.logit_kl.tolist(),
            "tuned_kl": made.tuned_kl.tolist(),
        }  # fmt: skip

    def many() -> dict[str, Any]:
        made = ts.explain_many(model, PROMPTS, methods=["input_x_gradient", "attention_mean"])
        frame = made.to_pandas()
        kept = frame[frame["what"] == "faithfulness"]
        return {"n": made.n, "failures": made.failures, "means": kept.to_dict(orient="records")}

    for work in (repeats, patching, tracing, reference, paths, many, lens):
        timed(work.__name__, work)
    if given.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
