"""How faithful is every method of attribution? Deletion and insertion over many prompts.

``python -m bench.faithfulness --json [--model real|bundled|FOLDER] [--prompts 40]``

For a model of 135 million weights on one core, about half a minute a prompt:
``--model real --tokens 24,48 --methods occlusion,input_x_gradient --draws 1 --out FILE``;
``--report FILE`` makes the document of the rows that are there, at any time.

Prompts are the beginnings of functions of the standard library, 40 to 90 tokens; the token that
is explained is the real next one, against the model's own favourite among the others. Per method:
the share of prompts on which it beats the mean of 20 random orders, recency and attention on both
curves, and the share on which the verdict is "points at what matters", each with a 95 % interval
(bootstrap over prompts). ``random`` is a random attribution: its verdict must be rare (<= 5 %).
Every prompt is printed to stderr as it is done (``--out FILE`` keeps the rows as lines of JSON).
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

SOURCES = (
    "argparse", "ast", "bisect", "calendar", "cmd", "code", "codecs", "collections",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "difflib", "fnmatch", "fractions",
    "functools", "gettext", "glob", "gzip", "heapq", "inspect", "ipaddress", "json.decoder",
    "logging", "mailbox", "mimetypes", "pprint", "queue", "random", "sched", "shlex", "shutil",
    "statistics", "string", "tarfile", "textwrap", "threading", "tokenize", "types", "uuid",
    "weakref", "zipfile",
)  # fmt: skip
METHODS = ("occlusion", "input_x_gradient", "attention_knockout", "attention_mean")


def functions(seed: int) -> Iterator[str]:
    """Functions of the standard library, shuffled, at most one per module in a round."""
    random = np.random.default_rng(seed)
    for name in random.permutation(SOURCES):
        try:
            module = __import__(str(name), fromlist=["_"])
            text = inspect.getsource(module)
            found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        except (ImportError, OSError, SyntaxError, TypeError):
            continue
        long = [n for n in found if (n.end_lineno or 0) - n.lineno >= 6]
        if long:
            node = long[int(random.integers(len(long)))]
            yield "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def questions(
    model: Any, count: int, seed: int, tokens: tuple[int, int] = (40, 90)
) -> Iterator[tuple[Any, int]]:
    """(trace, position): a token that is a word, so many tokens into a function."""
    low, high = tokens
    random = np.random.default_rng(seed)
    made = 0
    for round_ in range(8):
        for text in functions(seed + round_):
            trace = model.score(text[: high * 12])  # a token of code has 3 to 4 characters
            fits = [
                t for t in range(low, min(high, len(trace)))
                if trace.tokens[t].text.strip().isidentifier()
            ]  # fmt: skip
            if not fits:
                continue
            yield trace, int(random.choice(fits))
            made += 1
            if made == count:
                return


def ask(model: Any, trace: Any, at: int) -> Any:
    """A is the real token, B the likeliest other one."""
    from tokenscope.runs.explain import asked_of

    row = trace.alternatives.row(at)
    other = next(o.id for o in row if o.id != int(trace.ids[at]))
    return asked_of(model, trace, at, other, None)


def judge(asked: Any, values: Any, others: dict[str, Any], hows: tuple[str, ...]) -> dict[str, Any]:
    """What the curves say of one attribution."""
    from tokenscope.explain.faithfulness import curves

    out: dict[str, Any] = {}
    for how in hows:
        made = curves(asked, values, how, others)
        out[how] = {
            "deletion": made.deletion_area, "insertion": made.insertion_area,
            "deletion_quantile": made.deletion_quantile,
            "insertion_quantile": made.insertion_quantile,
            "beats_random": made.beats_random, "matters": made.matters,
            **{f"beats_{name}": made.beats(name) for name in others},
        }  # fmt: skip
    return out


def one(
    model: Any, trace: Any, at: int, hows: tuple[str, ...], seed: int,
    methods: tuple[str, ...] = METHODS, draws: int = 3,
) -> dict[str, Any]:  # fmt: skip
    """Every method on one prompt; what two orders have in common runs once (``asked.treated``)."""
    from tokenscope.control import QUIET
    from tokenscope.explain.methods import METHODS as KNOWN

    asked = ask(model, trace, at)
    recency = np.arange(asked.n, dtype=np.float32)
    attention = KNOWN.get("attention_mean").run(asked, QUIET).values
    others = {"recency": recency, "attention": attention}
    random = np.random.default_rng(seed)
    rows: dict[str, Any] = {}
    for name in methods:
        values = KNOWN.get(name).run(asked, QUIET).values
        rows[name] = judge(asked, values, others, hows)
    rows["recency"] = judge(asked, recency, others, hows)
    for i in range(draws):
        values = random.normal(size=asked.n).astype(np.float32)
        rows[f"random {i}"] = judge(asked, values, others, hows)
    return {"f": asked.value(), "prior": asked.prior(), "n": asked.n, "methods": rows}


def shares(rows: list[dict[str, Any]], hows: tuple[str, ...]) -> dict[str, Any]:
    """Share of prompts per method, perturbation and question: [share, low, high]."""
    from tokenscope.explain.intervals import interval

    out: dict[str, Any] = {}
    names = list(dict.fromkeys(k.split(" ")[0] for r in rows for k in r["methods"]))
    for name in names:
        for how in hows:
            cell = {}
            for key in ("beats_random", "beats_recency", "beats_attention", "matters"):
                per = [
                    float(np.mean([m[how][key] for k, m in r["methods"].items()
                                   if k.split(" ")[0] == name]))
                    for r in rows
                ]  # fmt: skip
                made = interval(per)
                cell[key] = [round(x, 3) for x in (made.mean, made.low, made.high)]
            both = [
                float(np.mean([m[how]["beats_random"] and m[how]["beats_recency"]
                               for k, m in r["methods"].items() if k.split(" ")[0] == name]))
                for r in rows
            ]  # fmt: skip
            made = interval(both)
            cell["beats_both"] = [round(x, 3) for x in (made.mean, made.low, made.high)]
            out[f"{name} / {how}"] = cell
    return out


def main() -> int:
    """Run, print one document; exit 1 where a random attribution convinces too often."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--model", default="bundled", help="real, bundled, or a folder")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--how", default="embedding,mask")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--tokens", default="40,90", help="shortest and longest prompt")
    parser.add_argument("--draws", type=int, default=3, help="random attributions per prompt")
    parser.add_argument("--report", type=Path, default=None, help="rows of an earlier --out")
    options = parser.parse_args()
    hows = tuple(options.how.split(","))
    if options.report is not None:
        kept = [json.loads(line) for line in options.report.read_text().splitlines()]
        return told(options.model, kept, hows, options.json)
    torch.set_num_threads(1)
    import tokenscope as ts

    address = None if options.model == "bundled" else options.model
    if options.model == "real":
        from tests.real_model import smollm2

        folder, reason = smollm2()
        if folder is None:
            parser.error(reason)
        address = str(folder)
    model = ts.load(address)
    low, high = (int(n) for n in options.tokens.split(","))
    methods = tuple(options.methods.split(","))
    rows: list[dict[str, Any]] = []
    for i, (trace, at) in enumerate(questions(model, options.prompts, options.seed, (low, high))):
        rows.append(one(model, trace, at, hows, options.seed + i, methods, options.draws))
        print(f"{i + 1}/{options.prompts}", file=sys.stderr, flush=True)
        if options.out is not None:
            with open(options.out, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    return told(model.info.name, rows, hows, options.json)


def told(model: str, rows: list[dict[str, Any]], hows: tuple[str, ...], as_json: bool) -> int:
    """Print the document; 1 where a random attribution convinces too often."""
    report: dict[str, Any] = {
        "model": model, "prompts": len(rows),
        "prior_at_least_75_percent": float(
            np.mean([r["prior"] >= 0.75 * r["f"] > 0 for r in rows])
        ),
        "shares": shares(rows, hows),
    }  # fmt: skip
    chance = max(report["shares"][f"random / {h}"]["matters"][0] for h in hows)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        for name, cell in report["shares"].items():
            print(f"{name:30}", {k: v[0] for k, v in cell.items()})
    return 0 if chance <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
