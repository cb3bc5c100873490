"""What faces call to decode: generate, fork, score. Checks first, then a Run to iterate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock

import numpy as np

from tokenscope.backends.protocol import chat, infill
from tokenscope.decode.collect import Collector
from tokenscope.decode.engine import AttentionForm, Engine, Plan
from tokenscope.decode.limits import room
from tokenscope.decode.sampling import Sampler
from tokenscope.decode.step import Step
from tokenscope.errors import AbilityError, InputError
from tokenscope.metrics.series import RunningPerplexity
from tokenscope.trace.columns import Column
from tokenscope.trace.edits import Edit, Force
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Finish, Trace
from tokenscope.trace.tokens import Tokens

MAX_ALTERNATIVES = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode; see ``decode.sampling.Sampler`` for the sampler's own.

    ``alternatives``: how many candidates each position keeps. ``attention``: ``none``, ``top``
    (the heaviest entries of every row) or ``full`` (float16 rows).
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    alternatives: int = 10
    attention: AttentionForm = "top"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        for name, top in (("max_new_tokens", 1 << 24), ("alternatives", MAX_ALTERNATIVES)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
                raise InputError(name, f"must be a whole number in 0..{top}")
        if self.attention not in ("none", "top", "full"):
            raise InputError("attention", "must be none, top or full")
        if any(not isinstance(s, str) or not s for s in self.stop):
            raise InputError("stop", "must hold non-empty strings")
        self.sampler()

    def sampler(self) -> Sampler:
        """The sampler's part. Raises InputError for values that make no sense."""
        return Sampler(
            self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty,
            self.seed,
        )  # fmt: skip


class Run:
    """One decoding in progress. Iterate it for Steps (in any one thread); then read ``trace``.

    ``shared``: the measured tokens that came from a parent, or None. ``total``: the most tokens
    that the trace can have.
    """

    def __init__(self, engine: Engine, plan: Plan, origin: Origin, language: str) -> None:
        self.shared = plan.shared
        self.total = len(plan.given) + plan.max_new_tokens
        self.n_prompt = plan.n_prompt
        self._engine = engine
        self._plan = plan
        self._cancel = Event()
        self._lock = Lock()
        self._collector = Collector(plan.shared, plan.n_prompt, origin, language)
        self._finish: Finish = ""
        self._decoding = engine.decode(plan, self._cancel)
        self._steps = self._go()

    def __iter__(self) -> Iterator[Step]:
        return self._steps  # one iterator for good: a loop that was left can be taken up again

    def _go(self) -> Iterator[Step]:
        try:
            for item in self._decoding:
                if isinstance(item, str):
                    self._finish = item
                    break
                with self._lock:
                    self._collector.add(item)
                yield item
        except BaseException:
            self._finish = self._finish or "error"
            raise
        finally:
            if self._finish not in ("", "error"):
                self._keep()

    def cancel(self) -> None:
        """End within one step, from any thread. What was decoded stays in ``trace``."""
        self._cancel.set()

    @property
    def finish(self) -> Finish:
        """Why it ended; "" while it runs."""
        return self._finish

    @property
    def trace(self) -> Trace:
        """Everything so far: what was shared and every Step that was handed out."""
        with self._lock:
            return replace(self._collector.trace(), finish=self._finish)

    def result(self) -> Trace:
        """Run to the end and give the trace."""
        for _ in self:
            pass
        return self.trace

    def _keep(self) -> None:
        if self._decoding.state is not None:
            self._engine.prefixes.put(self._decoding.state, self.trace)


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
    stops = backend.stop_ids
    if (messages is None) == (prompt is None):
        raise InputError("prompt", "exactly one of prompt and messages is needed")
    if messages is not None:
        if suffix is not None:
            raise InputError("suffix", "an infill takes a prompt, not messages")
        form, given = "chat", chat(backend).encode_chat(messages)
    elif suffix is not None:
        form, given = "infill", infill(backend).encode_infill(prompt or "", suffix)
        stops = stops | infill(backend).infill_stops()
    else:
        form, given = "plain", engine.vocabulary.encode(prompt or "")
    return _start(engine, given, len(given), form, language, settings, stops, None, ())


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
    backend = engine.backend
    if trace.origin.tokenizer_digest not in ("", engine.info.tokenizer_digest):
        raise InputError("trace", "was made with another tokenizer")
    shared, words = trace.cut(at), engine.vocabulary
    if isinstance(token, str):
        forced = words.encode(token, bos=False) if token else Tokens.of([], [])
    else:
        ids = [token] if isinstance(token, int) else list(token)
        labels = {n: s for n, s in enumerate(map(words.label, ids)) if s is not None}
        forced = Tokens.of(ids, [words.piece(i) for i in ids], labels)
    given = shared.tokens.joined(forced)
    n_prompt = min(trace.n_prompt, at)
    if at < trace.n_prompt:
        n_prompt = len(given)
    was = int(trace.ids[at]) if at < len(trace) else -1
    edits = trace.origin.edits
    if len(forced):
        edits = (*edits, Force(at, tuple(int(i) for i in forced.ids), was))
    usable = shared if at > 0 and _same_numbers(engine, trace, settings) else None
    known = None
    if usable is not None and len(forced) == 1:
        known = _offered(trace, at, forced, settings)
    stops = backend.stop_ids
    if trace.origin.form == "infill":
        stops = stops | infill(backend).infill_stops()
    return _start(
        engine,
        given,
        n_prompt,
        trace.origin.form,
        trace.language,
        settings,
        stops,
        usable,
        edits,
        known,
    )


def score(engine: Engine, text: str, *, language: str = "", alternatives: int = 10) -> Run:
    """Teacher forcing: every column for a text that someone else wrote, from one prefill."""
    given = engine.vocabulary.encode(text)
    settings = Settings(max_new_tokens=0, alternatives=alternatives, attention="none")
    return _start(engine, given, len(given), "score", language, settings, frozenset(), None, ())


def _offered(trace: Trace, at: int, forced: Tokens, settings: Settings) -> Step | None:
    """Token ``at`` of a branch, measured from what its parent kept; None where that is not enough.

    The distribution is the parent's, so its own figures stand; those of the token follow from its
    place among the alternatives. The row of attention is that of the same query.
    """
    held, record = trace.alternatives, trace.attention
    if held is None or not 0 < at < len(trace) or settings.sampler().changes:
        return None
    found = np.nonzero(held.ids[at] == forced.ids[0])[0]
    attention = None
    if settings.attention != "none":
        if record is None or record.form != settings.attention or not record.has(at):
            return None
        attention = record.only(at)
    if not len(found) or "entropy" not in trace.columns:
        return None
    place = int(found[0])
    logprob = held.logprobs[at, place]
    columns = {n: trace.column(n)[at : at + 1] for n in ("entropy", "varentropy", "margin")}
    own = {
        "logprob": logprob,
        "surprisal": -logprob,
        "probability": np.exp(logprob),
        "rank": 1 + int((held.logprobs[at] > logprob).sum()),
        "p_ratio": np.exp(logprob - held.logprobs[at, 0]),
        "time_ms": 0.0,
    }
    columns |= {n: np.array([v], dtype=np.float32) for n, v in own.items()}
    return Step(at, forced, columns, held.slice(at, at + 1), attention, False)


def _same_numbers(engine: Engine, trace: Trace, settings: Settings) -> bool:
    """Whether the measurements of a trace may stand in a new one beside fresh ones."""
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        return False
    if "logprob" not in trace.columns:
        return False
    k = trace.alternatives.k if trace.alternatives is not None else 0
    return k == min(settings.alternatives, engine.info.vocab or settings.alternatives)


def _rebased(shared: Trace, n_prompt: int, running: bool, settings: Settings) -> Trace:
    """A measured start with the columns that depend on where the generated part begins redone."""
    begin = 0 if running else min(n_prompt, len(shared))
    values = np.full(len(shared), np.nan, dtype=np.float32)
    values[begin:] = RunningPerplexity().add(shared.column("surprisal")[begin:])
    columns = {n: c for n, c in shared.columns.items() if n != "logprob_sampled"}
    columns["perplexity"] = Column("perplexity", values)
    sampled = shared.columns.get("logprob_sampled")
    if sampled is not None and settings.sampler().changes:
        columns["logprob_sampled"] = sampled
    return replace(shared, columns=columns)


def _start(
    engine: Engine,
    given: Tokens,
    n_prompt: int,
    form: str,
    language: str,
    settings: Settings,
    stops: frozenset[int],
    shared: Trace | None,
    edits: tuple[Edit, ...],
    known: Step | None = None,
) -> Run:
    info = engine.info
    if settings.attention != "none" and not engine.abilities.attention:
        if not info.attention_layers:
            settings = replace(settings, attention="none")
        else:
            raise AbilityError("this backend cannot record attention; ask for attention='none'")
    wanted = room(info, len(given), settings.max_new_tokens, settings.attention)
    if shared is None:
        shared = engine.prefixes.measured(
            given.ids, min(settings.alternatives, info.vocab or settings.alternatives)
        )
    if shared is not None:
        shared = _rebased(shared, n_prompt, form == "score", settings)
    sampler = settings.sampler()
    plan = Plan(
        given, n_prompt, wanted, sampler, stops, tuple(s.encode() for s in settings.stop),
        settings.alternatives, settings.attention, shared, form == "score", known,
    )  # fmt: skip
    origin = Origin(
        model=info.name, model_digest=info.model_digest, tokenizer_digest=info.tokenizer_digest,
        backend=info.backend, dtype=info.dtype, device=info.device, kernel=info.kernel, form=form,
        sampler={
            **sampler.to_json(), "max_new_tokens": settings.max_new_tokens,
            "stop": list(settings.stop), "alternatives": settings.alternatives,
            "attention": settings.attention,
        },
        seed=settings.seed, edits=edits, versions=dict(info.versions),
    )  # fmt: skip
    return Run(engine, plan, origin, language)
