"""Measurements of many runs and many branches at one model."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import torch

from tokenscope.backends.protocol import Feed, pools
from tokenscope.decode.engine import AttentionForm, Engine
from tokenscope.errors import InputError
from tokenscope.runs.bench_texts import library_ids
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.generate import fork as branch
from tokenscope.runs.many import fork_many
from tokenscope.trace.record import Trace

NEAR_TIE = 1e-3  # nats between two tokens that rounding may exchange


def concurrent(
    engine: Engine,
    *,
    runs: int = 16,
    prompt_tokens: int = 128,
    new_tokens: int = 64,
    attention: AttentionForm = "top",
) -> dict[str, Any]:
    """``runs`` decodings at once, a thread each, against the same one after another.

    Greedy, everything recorded, prompts included. One after another is ``generate`` in a loop with
    the same settings: ``ratio`` without look-up speculation on either side,
    ``ratio_speculate_auto`` with it on both (it rests while others decode beside a run, so a run
    alone gains more by it), and ``ratio_alone_speculates`` the better of the two ways together
    against a loop with it. Ids must be equal; where they part, the margin there tells whether it
    was a near tie. ``worst`` is the largest difference of a column, and ``worst_column`` which;
    ``worst_relative`` in multiples of max(1, |value|), as replay counts.
    """
    prompts = []
    for n in range(runs):
        ids = library_ids(engine, prompt_tokens, n)
        prompts.append(b"".join(engine.vocabulary.piece(i) for i in ids).decode("utf-8", "replace"))
    settings = Settings(max_new_tokens=new_tokens, attention=attention, speculate="none")
    _alone(engine, prompts[:1], settings)  # warms up
    alone_s, alone = _alone(engine, prompts, settings)
    together_s, together = _together(engine, prompts, settings)
    auto = replace(settings, speculate="auto")
    alone_auto_s, _ = _alone(engine, prompts, auto)
    together_auto_s, _ = _together(engine, prompts, auto)
    tokens = sum(len(t) - t.n_prompt for t in alone)
    pairs = list(zip(alone, together, strict=True))
    parted = [_parting(a, b) for a, b in pairs]
    return {
        "alone_tokens_per_s": tokens / alone_s,
        "together_tokens_per_s": sum(len(t) - t.n_prompt for t in together) / together_s,
        "ratio": alone_s / together_s,
        "ratio_speculate_auto": alone_auto_s / together_auto_s,
        "ratio_alone_speculates": alone_auto_s / min(together_s, together_auto_s),
        "runs": runs,
        "equal_ids": parted.count(None),
        "parted_at_margin": [p for p in parted if p is not None],
        "near_ties": sum(p is not None and p < NEAR_TIE for p in parted),
        **_worst([p for p, at in zip(pairs, parted, strict=True) if at is None]),
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "attention": attention,
        "threads": torch.get_num_threads(),
        "model": engine.info.name,
    }  # fmt: skip


def _alone(engine: Engine, prompts: list[str], settings: Settings) -> tuple[float, list[Trace]]:
    engine.prefixes.clear()
    began = time.perf_counter()
    found = [generate(engine, prompt=p, settings=settings).result() for p in prompts]
    return time.perf_counter() - began, found


def _together(engine: Engine, prompts: list[str], settings: Settings) -> tuple[float, list[Trace]]:
    engine.prefixes.clear()
    runs = [generate(engine, prompt=p, settings=settings) for p in prompts]
    threads = [threading.Thread(target=run.result) for run in runs]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, [run.trace for run in runs]


def _parting(a: Trace, b: Trace) -> float | None:
    """The difference in nats of the two likeliest tokens where two traces part; None: nowhere."""
    if a.ids.tolist() == b.ids.tolist():
        return None
    n = min(len(a), len(b))
    at = int(np.argmax(a.ids[:n] != b.ids[:n]))
    if a.alternatives is None:
        return float("nan")
    first, second = a.alternatives.logprobs[at][:2]
    return float(first - second)


def _worst(pairs: list[tuple[Trace, Trace]]) -> dict[str, Any]:
    worst, name, relative = 0.0, "", 0.0
    for a, b in pairs:
        for n in a.columns:
            if n in ("time_ms", "rank", "perplexity"):
                continue
            apart = np.abs(a.column(n) - b.column(n))
            relative = max(relative, float(np.nanmax(apart / np.fmax(1.0, np.abs(a.column(n))))))
            if (most := float(np.nanmax(apart))) > worst:
                worst, name = most, n
    return {"worst": worst, "worst_column": name, "worst_relative": relative}


def branches(
    engine: Engine,
    *,
    runs: int = 32,
    prompt_tokens: int = 128,
    new_tokens: int = 64,
    attention: AttentionForm = "top",
) -> dict[str, Any]:
    """``runs`` branches of one trace through ``fork_many``, against ``fork`` in a loop.

    Greedy, everything recorded; each takes another alternative at another place. Figures as in
    ``concurrent``.
    """
    ids = library_ids(engine, prompt_tokens, 0)
    prompt = b"".join(engine.vocabulary.piece(i) for i in ids).decode("utf-8", "replace")
    settings = Settings(max_new_tokens=new_tokens, attention=attention, speculate="none")
    base = generate(engine, prompt=prompt, settings=settings).result()
    held, first = base.alternatives, base.n_prompt
    if held is None or len(base) == first:
        raise InputError("new_tokens", "give the base no token to branch at")
    places = [(first + n % (len(base) - first), 1 + n % (held.k - 1)) for n in range(runs)]
    asked = [(base, at, int(held.ids[at][k])) for at, k in places]

    def loop(settings: Settings) -> tuple[float, list[Trace]]:
        engine.prefixes.clear()
        began = time.perf_counter()
        found = [branch(engine, t, at, i, settings).result() for t, at, i in asked]
        return time.perf_counter() - began, found

    def at_once(settings: Settings) -> tuple[float, list[Trace]]:
        engine.prefixes.clear()
        began = time.perf_counter()
        found = fork_many(engine, asked, settings)
        return time.perf_counter() - began, found

    at_once(settings)  # warms up
    alone_s, alone = loop(settings)
    together_s, together = at_once(settings)
    alone_auto_s, _ = loop(replace(settings, speculate="auto"))
    parted = [_parting(a, b) for a, b in zip(alone, together, strict=True)]
    tokens = sum(len(t) - at for t, (_, at, _) in zip(alone, asked, strict=True))
    return {
        "alone_tokens_per_s": tokens / alone_s,
        "together_tokens_per_s": tokens / together_s,
        "ratio": alone_s / together_s,
        "ratio_alone_speculates": alone_auto_s / together_s,
        "runs": runs,
        "equal_ids": parted.count(None),
        "near_ties": sum(p is not None and p < NEAR_TIE for p in parted),
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "attention": attention,
        "threads": torch.get_num_threads(),
        "model": engine.info.name,
    }


def fork(
    engine: Engine, *, forks: int = 500, prompt_tokens: int = 1000, tail_tokens: int = 16
) -> dict[str, Any]:
    """Memory of ``forks`` branches over one prefix, each with a tail of its own.

    ``over_tails``: what is held beyond the prefix, in multiples of the bare size of the tails.
    ``resident_bytes``: by how much the process grew.
    """
    per = engine.info.state_bytes_per_token
    if not per:
        raise InputError("fork", "this backend holds its memory elsewhere")
    step = engine.stepper
    ids = library_ids(engine, prompt_tokens, 0)
    base = step.start()
    step.extend(Feed(base, ids, scores=0))
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    branches = [step.fork(base, prompt_tokens) for _ in range(forks)]
    for t in range(tail_tokens):
        for at in range(0, forks, 32):
            group = branches[at : at + 32]
            feeds = [Feed(b, [ids[(at + n + t) % len(ids)]], scores=0) for n, b in enumerate(group)]
            step.extend_many(feeds)
    seconds = time.perf_counter() - began
    if engine.abilities.pools:  # as they are when they are kept
        for b in branches:
            pools(engine.backend).settle(b)
    held: dict[int, int] = dict(base.blocks)
    for b in branches:
        held.update(b.blocks)
    prefix, tails = prompt_tokens * per, forks * tail_tokens * per
    return {
        "held_bytes": sum(held.values()),
        "prefix_bytes": prefix,
        "tails_bytes": tails,
        "over_tails": (sum(held.values()) - prefix) / tails,
        "copies_would_be_bytes": forks * (prompt_tokens + tail_tokens) * per,
        "resident_bytes": process.memory_info().rss - before,
        "ms_per_branch_token": seconds * 1e3 / (forks * tail_tokens),
        "forks": forks,
        "prompt_tokens": prompt_tokens,
        "tail_tokens": tail_tokens,
        "model": engine.info.name,
    }
