"""Measurements of the engine against transformers' own ``generate``, in pairs, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from tokenscope.backends.protocol import internals
from tokenscope.control import Control
from tokenscope.decode.engine import AttentionForm, Engine, Plan
from tokenscope.decode.sampling import Sampler
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.runs.generate import Settings, fork
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

Progress = Callable[[str], None]


def decode(
    engine: Engine,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    pairs: int = 5,
    attention: AttentionForm = "top",
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Decoding speed with everything recorded, against plain ``generate``.

    Plain: transformers' own ``generate``, sdpa, cached, greedy, recording nothing; the same
    weights and threads; interleaved. ``ratio`` is the median over the pairs of recorded over
    plain tokens/s (prompt included in both). ``branch_first_token_ms``: from asking for a fork to
    its first token, at half and at nearly the whole of the sequence.
    """
    model = internals(engine.backend).model
    if prompt_tokens < 2 or new_tokens < 2 or pairs < 1:
        raise InputError("bench", "needs at least 2 tokens of prompt, 2 new ones and 1 pair")
    if prompt_tokens + new_tokens > (engine.info.context or 1 << 62):
        raise InputError("prompt_tokens", f"exceeds the context of {engine.info.context}")
    ids = sample_ids(engine, prompt_tokens)
    plain(model, ids, new_tokens)
    trace = recorded(engine, ids, new_tokens, attention)[1]
    rows: list[dict[str, float]] = []
    for n in range(pairs):
        a = new_tokens / plain(model, ids, new_tokens)
        seconds, trace = recorded(engine, ids, new_tokens, attention)
        b = new_tokens / seconds
        rows.append({"plain_tokens_per_s": a, "recorded_tokens_per_s": b, "ratio": b / a})
        progress(f"pair {n + 1}/{pairs}: plain {a:.1f}, recorded {b:.1f} tokens/s")
    times = trace.column("time_ms")[prompt_tokens + 1 :]
    step = float(statistics.median(times.tolist()))
    early, late = max(2, len(trace) // 10), len(trace) - 2
    middle = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
    return {
        **middle,
        "step_ms": step,
        "branch_first_token_ms": branch(engine, trace, late, attention, pairs),
        "branch_early_first_token_ms": branch(engine, trace, early, attention, pairs),
        "branch_at": late,
        "branch_early_at": early,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "attention": attention,
        "threads": torch.get_num_threads(),
        "model": engine.info.name,
        "dtype": engine.info.dtype,
        "device": engine.info.device,
        "pairs": rows,
    }


def prefill(engine: Engine, *, prompt_tokens: int = 2000, pairs: int = 5) -> dict[str, Any]:
    """All columns of a prompt against one bare forward over it (sdpa, no cache kept)."""
    model = internals(engine.backend).model
    if prompt_tokens > (engine.info.context or 1 << 62):
        raise InputError("prompt_tokens", f"exceeds the context of {engine.info.context}")
    ids = sample_ids(engine, prompt_tokens)
    rows = []
    for n in range(pairs + 1):
        bare = _bare(model, ids)
        engine.prefixes.clear()
        plan = _plan(engine, ids, 0, "none")
        began = time.perf_counter()
        for _ in engine.decode(plan, Control()):
            pass
        full = time.perf_counter() - began
        if n:  # the first pair warms up
            rows.append({"bare_ms": bare * 1e3, "columns_ms": full * 1e3, "ratio": full / bare})
    middle = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
    return {**middle, "prompt_tokens": prompt_tokens, "threads": torch.get_num_threads(),
            "pairs": rows}  # fmt: skip


def sample_ids(engine: Engine, count: int) -> list[int]:
    """``count`` ordinary ids, the same at every call: code, repeated."""
    text = "def parse(line, sep=','):\n    fields = []\n    for part in line.split(sep):\n" * 4
    ids = [int(i) for i in engine.vocabulary.encode(text, bos=False).ids]
    return (ids * (count // len(ids) + 1))[:count]


def plain(model: Any, ids: list[int], new_tokens: int) -> float:
    """Seconds that transformers' own ``generate`` takes (sdpa, greedy, cached)."""
    held = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    feed = torch.tensor([ids], device=next(iter(model.parameters())).device)
    try:
        began = time.perf_counter()
        model.generate(
            feed, attention_mask=torch.ones_like(feed), do_sample=False, pad_token_id=0,
            max_new_tokens=new_tokens, min_new_tokens=new_tokens,
        )  # fmt: skip
        return time.perf_counter() - began
    finally:
        model.set_attn_implementation(held)


def _bare(model: Any, ids: list[int]) -> float:
    held = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    feed = torch.tensor([ids], device=next(iter(model.parameters())).device)
    try:
        with torch.inference_mode():
            began = time.perf_counter()
            model(input_ids=feed, use_cache=False)
            return time.perf_counter() - began
    finally:
        model.set_attn_implementation(held)


def _plan(engine: Engine, ids: list[int], new_tokens: int, attention: AttentionForm) -> Plan:
    given = Tokens.of(ids, [engine.vocabulary.piece(i) for i in ids])
    return Plan(given, len(ids), new_tokens, Sampler(), frozenset(), (), 10, attention)


def recorded(
    engine: Engine, ids: list[int], new_tokens: int, attention: AttentionForm
) -> tuple[float, Trace]:
    """Seconds from nothing kept to the whole trace, and the trace (its state is kept after)."""
    from tokenscope.decode.collect import fold
    from tokenscope.trace.origin import Origin

    engine.prefixes.clear()
    decoding = engine.decode(_plan(engine, ids, new_tokens, attention), Control())
    began = time.perf_counter()
    steps = [s for s in decoding if isinstance(s, Step)]
    trace = fold(None, steps, len(ids), Origin(), "")
    seconds = time.perf_counter() - began
    engine.prefixes.put(decoding.state, trace)
    return seconds, trace


def branch(engine: Engine, trace: Trace, at: int, attention: AttentionForm, runs: int) -> float:
    """Median ms from asking for a fork at ``at`` to its first decoded token."""
    token = next(int(i) for i in trace.alternatives.ids[at] if i != trace.ids[at]) if (
        trace.alternatives is not None
    ) else 0  # fmt: skip
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        run = fork(engine, trace, at, token, Settings(max_new_tokens=1, attention=attention))
        for step in run:
            if step.end > at + 1:
                times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[1:] or times)
