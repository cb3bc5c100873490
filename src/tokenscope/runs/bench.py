"""Measurements of the engine against transformers' own ``generate``, in pairs, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from tokenscope.backends.protocol import internals
from tokenscope.control import Control
from tokenscope.decode.engine import AttentionForm, Engine, Plan, Speculate
from tokenscope.decode.sampling import Sampler
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.runs.bench_texts import distinct_ids, library_ids
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
    speculate: Speculate = "auto",
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Decoding speed with everything recorded, against plain ``generate``.

    Plain: transformers' own ``generate``, sdpa, cached, greedy, recording nothing; the same
    weights and threads; interleaved, each pair on another file of Python's library. ``ratio`` is
    the median over the pairs of recorded over plain tokens/s (prompt included in both), as it is
    with ``speculate``; ``ratio_speculate_none`` without look-up speculation; and
    ``ratio_without_repeats`` after ids none of which comes twice, both drawn at temperature 1 (so
    that neither falls into a loop). ``tokens_per_forward``: what a pass gave on average.
    ``branch_first_token_ms``: from asking for a fork to its first token, at nearly the whole and
    at a tenth of the sequence.
    """
    model = internals(engine.backend).model
    if prompt_tokens < 2 or new_tokens < 2 or pairs < 1:
        raise InputError("bench", "needs at least 2 tokens of prompt, 2 new ones and 1 pair")
    if prompt_tokens + new_tokens > (engine.info.context or 1 << 62):
        raise InputError("prompt_tokens", f"exceeds the context of {engine.info.context}")
    ids = library_ids(engine, prompt_tokens, 0)
    plain(model, ids, new_tokens)
    recorded(engine, ids, new_tokens, attention, speculate)
    rows: list[dict[str, float]] = []
    for n in range(pairs):
        ids = library_ids(engine, prompt_tokens, n)
        odd = distinct_ids(engine, prompt_tokens, n)
        a = new_tokens / plain(model, ids, new_tokens)
        single = recorded(engine, ids, new_tokens, attention, "none")
        mine = recorded(engine, ids, new_tokens, attention, speculate)
        x = plain(model, odd, new_tokens, temperature=1.0)
        y = recorded(engine, odd, new_tokens, attention, speculate, Sampler(1.0, seed=n))
        rate = new_tokens / mine.seconds
        rows.append({
            "plain_tokens_per_s": a, "recorded_tokens_per_s": rate, "ratio": rate / a,
            "tokens_per_forward": new_tokens / mine.passes,
            "ratio_speculate_none": new_tokens / single.seconds / a, "step_ms": single.step_ms,
            "ratio_without_repeats": x / y.seconds,
        })  # fmt: skip
        progress(f"pair {n + 1}/{pairs}: plain {a:.1f}, recorded {rate:.1f} tokens/s")
    # a run that is kept is what branches start from
    trace = recorded(engine, ids, new_tokens, attention, speculate).trace
    early, late = max(2, len(trace) // 10), len(trace) - 2
    middle = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
    return {
        **middle,
        "branch_first_token_ms": branch(engine, trace, late, attention, pairs),
        "branch_early_first_token_ms": branch(engine, trace, early, attention, pairs),
        "branch_at": late,
        "branch_early_at": early,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "attention": attention,
        "speculate": speculate,
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
    ids = library_ids(engine, prompt_tokens, 0)
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


def plain(model: Any, ids: list[int], new_tokens: int, temperature: float = 0.0) -> float:
    """Seconds that transformers' own ``generate`` takes (sdpa, cached; temperature 0: greedy)."""
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    held = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    feed = torch.tensor([ids], device=next(iter(model.parameters())).device)
    try:
        began = time.perf_counter()
        model.generate(
            feed, attention_mask=torch.ones_like(feed), pad_token_id=0,
            max_new_tokens=new_tokens, min_new_tokens=new_tokens,
            **(drawn if temperature else {"do_sample": False}),
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


def _plan(
    engine: Engine, ids: list[int], new_tokens: int, attention: AttentionForm,
    speculate: Speculate = "none", sampler: Sampler = Sampler(),
) -> Plan:  # fmt: skip
    given = Tokens.of(ids, [engine.vocabulary.piece(i) for i in ids])
    return Plan(
        given, len(ids), new_tokens, sampler, frozenset(), (), 10, attention, speculate=speculate
    )


class Recorded(NamedTuple):
    """``seconds`` in all, ``passes`` that made new tokens, median ms of a token, the trace."""

    seconds: float
    passes: int
    step_ms: float
    trace: Trace


def recorded(
    engine: Engine, ids: list[int], new_tokens: int, attention: AttentionForm,
    speculate: Speculate = "none", sampler: Sampler = Sampler(),
) -> Recorded:  # fmt: skip
    """One run from nothing kept to the whole trace, whose state is kept after."""
    from tokenscope.decode.collect import fold
    from tokenscope.trace.origin import Origin

    engine.prefixes.clear()
    decoding = engine.decode(
        _plan(engine, ids, new_tokens, attention, speculate, sampler), Control()
    )
    began = time.perf_counter()
    steps = [s for s in decoding if isinstance(s, Step)]
    trace = fold(None, steps, len(ids), Origin(), "")
    seconds = time.perf_counter() - began
    engine.prefixes.put(decoding.state, trace)
    made = [s for s in steps if not s.prompt]
    step = statistics.median(float(s.columns["time_ms"][0]) for s in made)
    return Recorded(seconds, len(made), step, trace)


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
