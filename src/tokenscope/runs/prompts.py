"""What interventions are asked about: a text or a trace, the token at its end, A and B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tokenscope.backends.hf.internals import Internals
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.guard import check
from tokenscope.explain.target import Asked, Target, ask
from tokenscope.runs.explain import asked_of, internals_of
from tokenscope.runs.generate import score
from tokenscope.trace.record import Trace

# characters of one piece when a long text becomes ids; a context holds at least this
PIECE = 2000


def trace_of(engine: Engine, given: str | Trace, field: str = "prompt") -> Trace:
    """A trace as it is, a text as the trace that scoring makes. Raises InputError."""
    if isinstance(given, Trace):
        if len(given) == 0:
            raise InputError(field, "is empty")
        if given.origin.model_digest not in ("", engine.info.model_digest):
            raise InputError(field, "was made by another model")
        return given
    if not isinstance(given, str) or not given:
        raise InputError(field, "must be a text that is not empty, or a trace")
    return score(engine, given, alternatives=1).result()


def shown(engine: Engine, token: int) -> str:
    """An id as text; a special one by its label."""
    label = engine.vocabulary.label(token)
    return label or engine.vocabulary.piece(token).decode("utf-8", "replace")


def favourite(internals: Internals, ids: Sequence[int]) -> int:
    """The id that the model finds likeliest after ``ids``."""
    with torch.no_grad():
        return int(internals.logits(internals.embed(ids))[0].argmax())


def runner_up(internals: Internals, ids: Sequence[int], but: int) -> int:
    """The likeliest id after ``ids`` other than ``but``."""
    with torch.no_grad():
        logits = internals.logits(internals.embed(ids))[0].clone()
    logits[but] = -torch.inf
    return int(logits.argmax())


def asked_at(
    engine: Engine, trace: Trace, at: int | None, token: str | int | None,
    contrast: str | int | None,
) -> Asked:  # fmt: skip
    """The target; ``at`` None is the token after the last one, where the model's favourite is A."""
    place = len(trace) if at is None else at
    guard(engine, trace, place)
    if token is None and place == len(trace):
        token = favourite(internals_of(engine), trace.ids.tolist())
    return asked_of(engine, trace, place, contrast, token)


def guard(engine: Engine, trace: Trace, at: int) -> None:
    """Raises AbilityError where the opened model does not give the recorded logprob of the token
    ``at``, or of the last one where ``at`` is the next."""
    place = min(at, len(trace) - 1)
    if place >= 1:
        ids = [int(i) for i in trace.ids]
        asked = ask(internals_of(engine), ids, Target(place, ids[place]))
        check(asked, trace, engine.info.dtype, engine.info.errors)


def edited(engine: Engine, trace: Trace, text: str) -> Trace:
    """The trace with its text changed to ``text``: tokens that lie wholly in what both texts
    begin or end with stay as they are, only what stands between is encoded anew."""
    old, new = trace.tokens.data, text.encode("utf-8", "replace")
    short = min(len(old), len(new))
    head = next((i for i in range(short) if old[i] != new[i]), short)
    tail = next(
        (i for i in range(short - head) if old[len(old) - 1 - i] != new[len(new) - 1 - i]),
        short - head,
    )
    o = trace.tokens.offsets
    first = int(np.searchsorted(o[1:], head, side="right"))
    last = max(first, int(np.searchsorted(o[:-1], len(old) - tail, side="left")))
    middle = new[int(o[first]) : int(o[last]) + len(new) - len(old)]
    tokens = trace.tokens.slice(0, first)
    if middle:
        words = middle.decode("utf-8", "replace")
        tokens = tokens.joined(engine.vocabulary.encode(words, bos=False))
    tokens = tokens.joined(trace.tokens.slice(last, len(trace)))
    if len(tokens) == 0:
        raise InputError("corrupt", "is empty")
    return Trace(tokens, len(tokens))


def start_ids(engine: Engine) -> list[int]:
    """What the model expects before any plain text."""
    with_start = engine.vocabulary.encode("a").ids.tolist()
    plain = engine.vocabulary.encode("a", bos=False).ids.tolist()
    return [int(i) for i in with_start[: len(with_start) - len(plain)]]


def ids_of(engine: Engine, text: str) -> list[int]:
    """A text of any length as ids without a start token, piece by piece at line ends."""
    made: list[int] = []
    piece = ""
    for line in [*text.splitlines(keepends=True), ""]:
        if piece and (not line or len(piece) + len(line) > PIECE):
            made += engine.vocabulary.encode(piece, bos=False).ids.tolist()
            piece = ""
        piece += line
    return made


def texts_of(engine: Engine, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Reference texts as ids, each with the model's start and cut to ``limit`` tokens."""
    if isinstance(texts, str) or not texts or any(not isinstance(t, str) for t in texts):
        raise InputError("reference", "must be a list of texts")
    start = start_ids(engine)
    return [[*start, *ids_of(engine, t)][:limit] for t in texts]


def meanings(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The definitions of numbers, as JSON takes them."""
    found = [(n, DEFINITIONS.get(n)) for n in dict.fromkeys(names)]
    return {
        n: {"title": d.title, "unit": d.unit, "formula": d.formula, "source": d.source,
            "limits": d.limits}
        for n, d in found
    }  # fmt: skip
