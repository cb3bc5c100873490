"""What faces call to explain a choice: checks first, then one attribution, then tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from tokenscope.backends.hf.attention_kernel import KERNEL, Edge
from tokenscope.backends.hf.internals import HeadPatch, Internals, MlpPatch, Patch
from tokenscope.backends.protocol import internals
from tokenscope.control import QUIET, Cancelled, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, TokenScopeError
from tokenscope.explain.explanation import Explanation, Table
from tokenscope.explain.guard import check
from tokenscope.explain.methods import METHODS
from tokenscope.explain.perturb import ablate
from tokenscope.explain.places import phrase, token_lines
from tokenscope.explain.reasons import find_reasons
from tokenscope.explain.sentence import sentence
from tokenscope.explain.tables import TABLES, Asking
from tokenscope.explain.target import Asked, Target, ask
from tokenscope.runs.kept_lens import usable_lens
from tokenscope.trace.record import Trace

__all__ = [
    "Cancelled", "Control", "Explaining", "Explanation", "ablation", "explain", "internals_of",
]  # fmt: skip

# what proposes and what is shown unless asked otherwise: of what was measured the most faithful
# where tokens are replaced; where they are hidden, knockout is as good (82 %, 80 %; docs/why.md)
DEFAULT_METHOD = "occlusion"

_OPENED: WeakKeyDictionary[Engine, Internals] = WeakKeyDictionary()


def internals_of(engine: Engine) -> Internals:
    """The model opened for hooks and gradients; it takes turns with runs.

    Raises AbilityError where the backend has no internals or they cannot be mapped.
    """
    found = _OPENED.get(engine)
    if found is None:
        model, kernel = internals(engine.backend).model, engine.info.kernel
        found = Internals(model, engine.turn, eager=kernel != KERNEL)
        _OPENED[engine] = found
    return found


def explain(
    engine: Engine, trace: Trace, at: int, *, contrast: str | int | None = None,
    method: str = DEFAULT_METHOD, token: str | int | None = None, also: Sequence[str] = (),
    control: Control = QUIET,
) -> Explanation:  # fmt: skip
    """Why token ``at`` given the tokens before it, perhaps rather than ``contrast``.

    ``contrast`` and ``token`` (what is explained in place of the trace's own token): a str or an
    id. ``also``: names of tables to make (``regions``, ``lens``, ``components``, ``ablation``,
    ``edges``, ``faithfulness``). Raises InputError, UnknownName, AbilityError, CapacityError.
    """
    job = explaining(engine, trace, at, contrast, method, token, also, control)
    made = job.attribution()
    return replace(made, tables={name: job.table(made, name) for name in also})


def explaining(
    engine: Engine, trace: Trace, at: int, contrast: str | int | None = None,
    method: str = DEFAULT_METHOD, token: str | int | None = None, also: Sequence[str] = (),
    control: Control = QUIET,
) -> Explaining:  # fmt: skip
    """The job that explains: by the model's inside, or, of a GGUF file, by leaving tokens out."""
    if engine.info.backend == "llama.cpp":
        from tokenscope.runs.explain_outside import Outside

        return Outside(engine, trace, at, contrast, method, token, also, control)
    return Explaining(engine, trace, at, contrast, method, token, also, control)


class Explaining:
    """One job in pieces, so that a face can show each as it comes. Checks when it is made."""

    def __init__(
        self, engine: Engine, trace: Trace, at: int, contrast: str | int | None = None,
        method: str = DEFAULT_METHOD, token: str | int | None = None,
        also: Sequence[str] = (), control: Control = QUIET,
    ) -> None:  # fmt: skip
        self.method = METHODS.get(method)
        for name in also:
            TABLES.get(name)
        self.engine, self.trace, self.also, self.control = engine, trace, tuple(also), control
        self.asked = asked_of(engine, trace, at, contrast, token)

    def attribution(self) -> Explanation:
        """Values, and the sentence with the interventions that back it."""
        asked, target = self.asked, self.asked.target
        check(asked, self.trace, self.engine.info.dtype, self.engine.info.errors)
        made = self.method.run(asked, self.control)
        a, b = self.show(target.a), None if target.b is None else self.show(target.b)
        reasons, seen = find_reasons(asked, self.trace, made.values, self.control)
        tokens = self.trace.tokens
        long_a = phrase(tokens, target.at, self.engine.vocabulary.piece(target.a)) if a else a
        long_b = phrase(tokens, target.at, self.engine.vocabulary.piece(target.b)) \
            if target.b is not None else None  # fmt: skip
        chosen = target.at < len(self.trace) and int(self.trace.ids[target.at]) == target.a
        words = sentence(
            self._named(target.a, long_a), None if target.b is None else
            self._named(target.b, long_b or ""), made.value, reasons, chosen, seen,
        )  # fmt: skip
        if not made.converged:
            words = f"{made.note} By taking spans out instead: {words}"
        logp = asked.logits().log_softmax(-1)
        return Explanation(
            self.trace, target, a, b, self.method.name, made.values.astype(np.float32),
            made.value, made.gap, made.converged, made.note, words, tuple(reasons),
            float(logp[target.a]), None if target.b is None else float(logp[target.b]), seen,
        )  # fmt: skip

    def table(self, made: Explanation, name: str) -> Table:
        """One table; what cannot be made says why and leaves the others alone.

        Raises UnknownName, Cancelled.
        """
        lens = usable_lens(self.engine, self.asked.internals) if name == "lens" else None
        asking = Asking(self.asked, self.trace, made.values, self.show, self.control, lens)
        make = TABLES.get(name)
        try:
            return make(asking)
        except TokenScopeError as error:
            return Table(name, (), (), f"Not made: {error}", refused=True)

    def show(self, token: int) -> str:
        """An id as text."""
        label = self.engine.vocabulary.label(token)
        return label or self.engine.vocabulary.piece(token).decode("utf-8", "replace")

    def _named(self, token: int, words: str) -> str:
        return self.engine.vocabulary.label(token) or words


def ablation(
    engine: Engine, trace: Trace, at: int, *, part: Literal["head", "mlp", "edge"],
    layer: int | None,
    head: int | None = None, query: int | None = None, key: int | None = None,
    how: str = "mean", contrast: str | int | None = None, token: str | int | None = None,
    control: Control = QUIET,
) -> tuple[float, float]:  # fmt: skip
    """(f(x), effect) in nats of taking out one part.

    ``how``: ``zero`` or ``mean`` for a head or an MLP, ``cut`` or ``zero`` for an edge. Raises
    InputError, AbilityError.
    """
    asked = asked_of(engine, trace, at, contrast, token)
    check(asked, trace, engine.info.dtype, engine.info.errors)
    patch: Patch
    if part == "edge":
        if query is None or key is None or not 0 <= key <= query < at:
            raise InputError("key", f"an edge needs 0 <= key <= query < {at}")
        if how not in ("cut", "zero"):
            raise InputError("how", "must be cut or zero for an edge")
        patch = Edge(query, key, layer, head, "cut" if how == "cut" else "zero")
    else:
        if how not in ("zero", "mean"):
            raise InputError("how", "must be zero or mean")
        if layer is None or (part == "head" and head is None):
            raise InputError("layer", "a part needs its layer, a head its number too")
        by: Literal["zero", "mean"] = "mean" if how == "mean" else "zero"
        patch = HeadPatch(layer, int(head or 0), by) if part == "head" else MlpPatch(layer, by)
    return asked.value(), float(ablate(asked, [patch], control)[0])


def asked_of(
    engine: Engine, trace: Trace, at: int, contrast: str | int | None, token: str | int | None
) -> Asked:
    """The target of a trace, checked. ``at`` may be its length, when ``token`` is given."""
    internals = internals_of(engine)
    target = target_of(engine, trace, at, contrast, token)
    start = int(np.argmin([*trace.tokens.special[:at], False]))  # special tokens in front
    lines = token_lines(trace.tokens, start, at)
    end = engine.vocabulary.encode("\n", bos=False)
    newline = int(end.ids[0]) if len(end) == 1 else None
    return ask(internals, trace.ids.tolist(), target, start, lines, newline)


def target_of(
    engine: Engine, trace: Trace, at: int, contrast: str | int | None, token: str | int | None
) -> Target:
    """What is to be explained. Raises InputError."""
    if isinstance(at, bool) or not isinstance(at, int):
        raise InputError("at", "must be a token index")
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        raise InputError("trace", "was made by another model")
    if token is None and not 1 <= at < len(trace):
        raise InputError("at", f"must lie in 1..{len(trace) - 1}: token 0 has nothing before it")
    a = int(trace.ids[at]) if token is None else _id(engine, trace, at, "token", token)
    b = None if contrast is None else _id(engine, trace, at, "contrast", contrast)
    return Target(at, a, b)


def _id(engine: Engine, trace: Trace, at: int, field: str, given: str | int) -> int:
    """An id as it is; a text as the alternative of these bytes, else as its first token."""
    if isinstance(given, int):
        return given
    wanted = given.encode("utf-8", "replace")
    if trace.alternatives is not None and 0 <= at < len(trace):
        for option in trace.alternatives.row(at):
            if option.bytes == wanted or option.label == given:
                return option.id
    tokens = engine.vocabulary.encode(given, bos=False) if given else None
    if not tokens:
        raise InputError(field, "is no text that can be a token")
    return int(tokens.ids[0])
