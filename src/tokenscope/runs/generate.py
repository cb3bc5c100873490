"""What faces call to decode: generate, fork, score. Checks first, then a Run to iterate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from tokenscope.backends.protocol import chat, infill
from tokenscope.decode.appliers import INNER, NONE, prepared
from tokenscope.decode.engine import Engine, Plan
from tokenscope.decode.limits import room
from tokenscope.decode.served import bias_of
from tokenscope.decode.step import Step
from tokenscope.errors import AbilityError, InputError
from tokenscope.metrics.measure import metric_names
from tokenscope.metrics.series import CHANGED, RunningPerplexity
from tokenscope.runs.edits import going_on, scene_of
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.columns import F32, Column
from tokenscope.trace.edits import Force
from tokenscope.trace.origin import Origin, Request, Segment
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

# edits inside the model go through its own modules, and its lean step is not used
SLOW = ", with hooks"

__all__ = ["Run", "Settings", "begin", "fork", "generate", "score"]


def generate(
    engine: Engine,
    *,
    prompt: str | None = None,
    suffix: str | None = None,
    messages: Sequence[Mapping[str, str]] | None = None,
    language: str = "",
    settings: Settings = Settings(),
) -> Run:
    """Decode a new sequence from a prompt, a chat, or an infill (``prompt`` and ``suffix``).

    Raises InputError, AbilityError or CapacityError before anything is decoded.
    """
    backend = engine.backend
    if (messages is None) == (prompt is None):
        raise InputError("prompt", "exactly one of prompt and messages is needed")
    if messages is not None:
        if suffix is not None:
            raise InputError("suffix", "an infill takes a prompt, not messages")
        form, given = "chat", chat(backend).encode_chat(messages)
    elif suffix is not None:
        form, given = "infill", infill(backend).encode_infill(prompt or "", suffix)
    else:
        form, given = "plain", engine.vocabulary.encode(prompt or "")
    asked = Request(
        prompt, suffix, None if messages is None else tuple(dict(m) for m in messages),
        _template(engine) if form == "chat" else "", _start_token(given) if prompt else "",
    )  # fmt: skip
    return begin(engine, given, form, settings, language=language, request=asked)


def fork(
    engine: Engine,
    trace: Trace,
    at: int,
    token: str | int | Sequence[int],
    settings: Settings = Settings(),
) -> Run:
    """A branch: the tokens before ``at`` as they are, then ``token``, then what the model makes.

    ``token``: an id, ids, or a string (its tokens go in; "" only continues). Ids before ``at`` are
    reused, never tokenised again. Raises InputError for a position or id that does not exist.
    """
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= len(trace):
        raise InputError("at", f"must be a token index in 0..{len(trace)}")
    if trace.origin.tokenizer_digest not in ("", engine.info.tokenizer_digest):
        raise InputError("trace", "was made with another tokenizer")
    shared, words = trace.cut(at), engine.vocabulary
    learn = getattr(engine.backend, "learn", None)
    if learn is not None:  # a server that tells no ids: what the trace's own numbers stand for
        learn(shared.tokens.pieces())
        learn(trace.alternatives.pieces.values() if trace.alternatives is not None else ())
    if isinstance(token, str):
        forced = words.encode(token, bos=False) if token else Tokens.of([], [])
    else:
        ids = [int(token)] if isinstance(token, int | np.integer) else [int(i) for i in token]
        labels = {n: s for n, s in enumerate(map(words.label, ids)) if s is not None}
        forced = Tokens.of(ids, [words.piece(i) for i in ids], labels)
    given = shared.tokens.joined(forced)
    history = trace.origin.cut(at)
    if len(forced):
        was = int(trace.ids[at]) if at < len(trace) else -1
        force = Force(at, tuple(int(i) for i in forced.ids), was)
        history = replace(history, edits=(*history.edits, force))
    usable = shared if at > 0 and same_numbers(engine, trace, settings) else None
    known = None
    if usable is not None and len(forced) == 1:
        known = _offered(engine, trace, at, forced, _recordable(engine, settings))
    return begin(
        engine, given, trace.origin.form, settings, language=trace.language,
        n_prompt=min(trace.n_prompt, at) if at >= trace.n_prompt else len(given),
        request=trace.origin.request, history=history, parent=usable, known=known,
        drawn=_drawn(shared),
    )  # fmt: skip


def score(engine: Engine, text: str, *, language: str = "", alternatives: int = 10) -> Run:
    """Teacher forcing: every column for a text that someone else wrote, from one prefill."""
    given = engine.vocabulary.encode(text)
    settings = Settings(max_new_tokens=0, alternatives=alternatives, attention="none")
    asked = Request(prompt=text, start_token=_start_token(given))
    return begin(engine, given, "score", settings, language=language, request=asked)


def begin(
    engine: Engine,
    given: Tokens,
    form: str,
    settings: Settings,
    *,
    language: str = "",
    n_prompt: int | None = None,
    request: Request = Request(),
    history: Origin = Origin(),
    parent: Trace | None = None,
    known: Step | None = None,
    fresh: bool = False,
    drawn: Mapping[str, F32] = {},
) -> Run:
    """A run from tokens. ``history``: the origin of the part that came before (a branch's).

    ``parent``: a measured start of ``given`` that this run goes on from. ``known``: the token
    right after it, measured already. ``n_prompt``: all that is given, where not told. ``fresh``:
    nothing that is kept is used, everything is computed again. ``drawn``: see Plan.
    """
    if bool((given.ids < 0).any()):
        raise InputError("prompt", "holds tokens that are lost or redacted; no model can read them")
    info = engine.info
    n_prompt = len(given) if n_prompt is None else n_prompt
    settings = _recordable(engine, settings)
    inner = any(e.kind in INNER for e in settings.edits)
    held = replace(info, state_bytes_per_token=info.state_bytes_per_token * (2 if inner else 1))
    wanted = room(held, len(given), settings.max_new_tokens, settings.attention)
    stops = frozenset() if form == "score" else engine.backend.stop_ids
    if form == "infill":
        stops = stops | infill(engine.backend).infill_stops()
    settings = going_on(settings, history, len(given), wanted)
    scene = scene_of(engine, given, wanted, stops, form, n_prompt, request, language, settings)
    here = not engine.abilities.stream  # else the server is asked to do it
    applied = prepared(settings.edits, scene) if here else NONE
    bias = {} if here else bias_of(settings.edits)
    shared = parent
    if shared is None and not fresh:
        k = min(settings.alternatives, info.vocab or settings.alternatives)
        shared = engine.prefixes.measured(given.ids, k)
    if shared is not None:
        branch = settings.attention if parent is not None else "none"
        shared = _rebased(shared, n_prompt, form == "score", branch, drawn)
    sampler = settings.sampler()
    plan = Plan(
        given, n_prompt, wanted, sampler, stops, tuple(s.encode() for s in settings.stop),
        settings.alternatives, settings.attention, shared, form == "score", known, applied,
        settings.speculate, fresh, drawn=drawn, bias=bias, likeliest=settings.likeliest,
    )  # fmt: skip
    segments = history.segments
    if wanted:
        segments += (Segment(len(given), settings.plain(), settings.seed, settings.edits),)
    origin = Origin(
        model=info.name, model_digest=info.model_digest, tokenizer_digest=info.tokenizer_digest,
        backend=info.backend, dtype=info.dtype, device=info.device,
        kernel=info.kernel + (SLOW if inner else ""), form=form,
        sampler=settings.plain(), seed=settings.seed, edits=history.edits,
        versions=dict(info.versions), segments=segments, request=request,
        errors=dict(info.errors), threads=torch.get_num_threads(),
    )  # fmt: skip
    return Run(engine, plan, origin, language)


def _recordable(engine: Engine, settings: Settings) -> Settings:
    if settings.attention == "none" or engine.abilities.attention:
        return settings
    if not engine.info.attention_layers:
        return replace(settings, attention="none")
    raise AbilityError("this backend cannot record attention; ask for attention='none'")


def _start_token(given: Tokens) -> str:
    return given.labels.get(0, "")


def _template(engine: Engine) -> str:
    template = getattr(engine.backend, "template", None)
    return hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else ""


def _offered(
    engine: Engine, trace: Trace, at: int, forced: Tokens, settings: Settings
) -> Step | None:
    """Token ``at`` of a branch, measured from what its parent kept; None where that is not enough.

    The distribution is the parent's, so its own figures stand; those of the token follow from its
    place among the alternatives. The row of attention is that of the same query. A metric that
    is not known here cannot be told from that, so the long way is taken.
    """
    held, record = trace.alternatives, trace.attention
    if held is None or not 0 < at < len(trace) or settings.sampler().changes or settings.edits:
        return None
    found = np.nonzero(held.ids[at] == forced.ids[0])[0]
    attention = None
    inside = at < trace.n_prompt  # then the token is given, and rows begin after it
    if settings.attention != "none" and not inside:
        if record is None or record.form != settings.attention or not record.has(at):
            return None
        attention = record.only(at)
    names = metric_names(engine.abilities.scores)  # a server's tops give fewer
    of_distribution: list[str] = [n for n in ("entropy", "varentropy", "margin") if n in names]
    if not len(found) or any(n not in trace.columns for n in of_distribution):
        return None
    logprob = held.logprobs[at, int(found[0])]
    columns = {n: trace.column(n)[at : at + 1] for n in of_distribution}
    own = {
        "logprob": logprob,
        "surprisal": -logprob,
        "probability": np.exp(logprob),
        "rank": 1 + int(found[0]),  # its place: of equals, the smaller id comes first
        "p_ratio": np.exp(logprob - held.logprobs[at, 0]),
        "time_ms": 0.0,
    }
    columns |= {n: np.array([v], dtype=np.float32) for n, v in own.items()}
    if not set(names) <= set(columns):
        return None
    quality = {
        n: trace.columns[n].quality for n in of_distribution if trace.columns[n].quality != "exact"
    }
    return Step(at, forced, columns, held.slice(at, at + 1), attention, inside, quality=quality)


def _drawn(start: Trace) -> dict[str, F32]:
    """What a trace knows of the distributions that its tokens were drawn from."""
    held = {n: start.columns[n].values for n in CHANGED if n in start.columns}
    return {n: v for n, v in held.items() if np.isfinite(v).any()}


def same_numbers(engine: Engine, trace: Trace, settings: Settings) -> bool:
    """Whether the measurements of a trace may stand in a new one beside fresh ones."""
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        return False
    if not set(metric_names(engine.abilities.scores)) <= set(trace.columns):
        return False
    k = trace.alternatives.k if trace.alternatives is not None else 0
    return k == min(settings.alternatives, engine.info.vocab or settings.alternatives)


def _rebased(
    shared: Trace, n_prompt: int, running: bool, attention: str, drawn: Mapping[str, F32]
) -> Trace:
    """A measured start with what depends on the run that it came from redone or left out.

    Running perplexity begins where the generated part does. ``attention``: the form of rows that
    may stay (a branch goes on with its parent's). ``drawn``: see Plan.
    """
    begin = 0 if running else min(n_prompt, len(shared))
    values = np.full(len(shared), np.nan, dtype=np.float32)
    values[begin:] = RunningPerplexity().add(shared.column("surprisal")[begin:])
    columns = {n: c for n, c in shared.columns.items() if n not in CHANGED}
    for name, known in drawn.items():
        kept = np.full(len(shared), np.nan, dtype=np.float32)
        kept[: len(known)] = known[: len(shared)]
        columns[name] = Column(name, kept)
    columns["perplexity"] = Column("perplexity", values)
    held = shared.attention
    if held is not None and held.form != attention:
        held = None
    return replace(shared, columns=columns, attention=held)
