"""Measures a model folder on the held-out files: `python -m training.evaluate --json`.

Bits per byte: every held-out file is scored from its start, in windows of the model's context
with half a window of overlap, so that each byte is counted once. Parse share: function bodies
are completed greedily from the file up to the `def` line (and docstring), cut at the dedent.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from training.corpus import Document, locate_heldout
from training.export import BUNDLED

NEWEST = 192  # tokens a completed body may have
CONTEXT_BYTES = 3000  # of the file, before the body


@dataclass(frozen=True, slots=True)
class Function:
    """A held-out function: the prompt that ends before its body, and where it stands."""

    name: str
    prompt: str
    header: str  # the prompt's last part: from the `def` line on
    indent: int


def windows(length: int, context: int) -> list[tuple[int, int, int]]:
    """(start, first scored target, end) of windows that together score 1..length-1 once."""
    if length <= context:
        return [(0, 1, length)]
    out, scored = [], 1
    while scored < length:
        end = min(length, context if scored == 1 else scored + context // 2)
        out.append((max(0, end - context), scored, end))
        scored = end
    return out


@torch.inference_mode()
def nats(model: PreTrainedModel, ids: Sequence[int], end: int) -> float:
    """Total surprisal of a document, from an end-of-text token on."""
    full = torch.tensor([end, *ids], device=model.device)
    total = 0.0
    for start, first, stop in windows(len(full), model.config.max_position_embeddings):
        logits = model(input_ids=full[None, start : stop - 1], use_cache=False).logits[0]
        picked = logits[first - 1 - start :].float()
        total += torch.nn.functional.cross_entropy(picked, full[first:stop], reduction="sum").item()
    return total


def functions(doc: Document) -> list[Function]:
    """The functions of a file whose body has at least three lines."""
    lines = doc.text.splitlines(keepends=True)
    out = []
    for node in ast.walk(ast.parse(doc.text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if not body or (body[-1].end_lineno or 0) - body[0].lineno < 2:
            continue
        first = body[0].lineno - 1
        if first < node.lineno or not lines[first].strip():
            continue
        start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
        prompt = "".join(lines[:first])
        header = "".join(lines[start:first])
        if len(header) < CONTEXT_BYTES // 2 and not prompt.rstrip(" ").endswith("\\\n"):
            out.append(Function(f"{doc.name}:{node.name}", prompt, header, node.col_offset))
    return out


def choose(documents: Sequence[Document], count: int) -> list[Function]:
    """`count` held-out functions in an order that depends on their names only."""
    found = [f for d in documents for f in functions(d)]
    return sorted(found, key=lambda f: hashlib.sha256(f.name.encode()).digest())[:count]


def cut_at_dedent(text: str, indent: int) -> tuple[str, bool]:
    """(the body that a continuation begins with, whether it came to an end)."""
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return "".join(kept), True
        kept.append(line)
    if kept and not kept[-1].endswith("\n"):
        kept.pop()
    return "".join(kept), False


def parses(function: Function, body: str) -> bool:
    """Whether header and body are one Python function with something in it."""
    if not body.strip():
        return False
    try:
        ast.parse(textwrap.dedent(function.header + body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@torch.inference_mode()
def complete(model: PreTrainedModel, tokenizer: Any, function: Function) -> tuple[str, bool]:
    """(the greedily completed body, whether the model ended it)."""
    prompt = function.prompt[-CONTEXT_BYTES:]
    if len(function.prompt) > CONTEXT_BYTES:
        prompt = prompt.partition("\n")[2]
    ids: list[int] = tokenizer(prompt, add_special_tokens=False).input_ids
    room = model.config.max_position_embeddings - NEWEST
    ids = ids[-room:]
    step: Tensor = torch.tensor([ids], device=model.device)
    cache, text, made = None, "", list[int]()
    for _ in range(NEWEST):
        output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, step = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
        token = int(step)
        if token == tokenizer.eos_token_id:
            return text, True
        made.append(token)
        text = tokenizer.decode(made)
        if "\n" in text[:-1] and not text.endswith(" "):
            body, ended = cut_at_dedent(text, function.indent)
            if ended:
                return body, True
    return cut_at_dedent(text, function.indent)[0], False


def evaluate(folder: Path, count: int, dtype: torch.dtype, quiet: bool) -> dict[str, Any]:
    """All figures of a model folder."""
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    documents, missing = locate_heldout()
    total, size, tokens = 0.0, 0, 0
    for doc in track(documents, "scoring", disable=quiet):
        ids = tokenizer(doc.text, add_special_tokens=False).input_ids
        total += nats(model, ids, tokenizer.eos_token_id)
        size, tokens = size + len(doc.text.encode()), tokens + len(ids)
    good = ended = 0
    chosen = choose(documents, count)
    for function in track(chosen, "completing", disable=quiet):
        body, finished = complete(model, tokenizer, function)
        good += parses(function, body)
        ended += finished
    return {
        "model": folder.name,
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in model.parameters()),
        "heldout_files": len(documents),
        "heldout_missing": missing,
        "heldout_bytes": size,
        "heldout_tokens": tokens,
        "bytes_per_token": round(size / max(1, tokens), 4),
        "nats_per_token": round(total / max(1, tokens), 4),
        "bits_per_byte": round(total / math.log(2) / max(1, size), 4),
        "functions": len(chosen),
        "parse_share": round(good / max(1, len(chosen)), 4),
        "ended_share": round(ended / max(1, len(chosen)), 4),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = evaluate(args.model, args.functions, getattr(torch, args.dtype), args.json)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
    if figures["heldout_missing"]:
        print("some held-out files differ on this machine: see heldout_missing", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
