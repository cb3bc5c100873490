"""Invented names: the probability mass of imports and attributes that do not exist.

At the start of a module's name (``import |``, ``from |``), of a name taken from a module of the
standard library (``from os import |``) or of its attribute (``os.|``), the model's whole
distribution is followed over the trie of tokens, most mass first. A path is

    known     when its name has ended and exists
    invented  when no existing name begins like it, or it has ended and does not exist
    other     when no name follows at all (a bracket, a new line)

and what is left open is told as well: the mass of invented names lies in
``[lower, lower + unexplored]``. Temperature 1, nothing cut off.
"""

from __future__ import annotations

import heapq
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.protocol import Feed, Full
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, InputError
from tokenscope.evidence.check import Options
from tokenscope.evidence.checks.imports import packages, standard
from tokenscope.trace.record import Trace

MOST = 48  # nodes of the trie that are read on from
TAIL = 1e-4  # of a node's mass that need not be looked at token by token
SHOWN = 8
_MODULE = re.compile(rb"^[ \t]*(?:import|from)[ \t]+(?=[A-Za-z_])", re.MULTILINE)
_MEMBER = re.compile(rb"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]+(?=[A-Za-z_])", re.MULTILINE)
_IMPORT = re.compile(rb"^[ \t]*import[ \t]+(\w+)[ \t]*$", re.MULTILINE)
_NAME = re.compile(rb"[A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A name begins at byte ``start``; ``names``: those that exist there."""

    start: int
    what: str
    names: frozenset[str]


@dataclass(frozen=True)
class Invented:
    """See the module. ``at``: the token in which the name begins; ``names``: invented ones with
    their mass (or the mass of all that begin so), largest first; ``written``: what stands there."""

    at: int
    start: int
    what: str
    written: str
    known: float
    lower: float
    other: float
    unexplored: float
    names: tuple[tuple[str, float], ...]
    nodes: int

    @property
    def upper(self) -> float:
        """The mass of invented names is at most this."""
        return min(1.0, self.lower + self.unexplored)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "token": self.at, "start": self.start, "what": self.what, "written": self.written,
            "lower": self.lower, "upper": self.upper, "known": self.known, "other": self.other,
            "unexplored": self.unexplored, "nodes": self.nodes,
            "names": [{"name": n, "mass": m} for n, m in self.names],
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.what} at byte {self.start} ({self.written}): names that do not exist have a "
            f"mass in [{self.lower:.3g}, {self.upper:.3g}], existing ones {self.known:.3g}"
        )


def invented(
    engine: Engine, trace: Trace, *, options: Options = Options(), most: int = MOST,
    control: Control = QUIET,
) -> list[Invented]:  # fmt: skip
    """Every place of a Python trace at which a name is imported or taken from a module.

    ``options``: allow-list and modules of the project. ``most``: nodes of the trie a place. Raises
    AbilityError where a backend tells no whole distributions.
    """
    if engine.abilities.scores != "full":
        raise AbilityError("this backend does not tell whole distributions")
    if not 1 <= most <= 10_000:
        raise InputError("most", "must lie in 1..10000")
    found = list(places(trace.tokens.data, options))
    made = []
    for number, place in enumerate(found):
        control.step(number, len(found), "names")
        at = trace.tokens.at_byte(place.start)
        if at >= 1:
            made.append(_walk(engine, trace, place, at, most, control))
    return made


def places(data: bytes, options: Options = Options()) -> Iterator[Place]:
    """Where names begin, in order of their bytes."""
    allow = packages() if options.allow is None else options.allow
    modules = frozenset(sys.stdlib_module_names) | allow | options.project
    found = [Place(m.end(), "module", modules) for m in _MODULE.finditer(data)]
    for m in _MEMBER.finditer(data):
        if names := _names(m.group(1).decode("ascii", "replace")):
            found.append(Place(m.end(), "name of a module", names))
    for m in _IMPORT.finditer(data):
        module = m.group(1).decode("ascii", "replace")
        if names := _names(module):
            used = re.compile(rb"(?<![\w.])" + re.escape(m.group(1)) + rb"\.(?=[A-Za-z_])")
            ends = [u.end() for u in used.finditer(data, m.end())]
            found += [Place(e, "attribute of a module", names) for e in ends]
    return iter(sorted(set(found), key=lambda p: p.start))


def _names(module: str) -> frozenset[str]:
    """What a module of the standard library holds; empty where it is none that can be looked at."""
    held = standard(module)
    if held is None:
        return frozenset()
    inner = {n.removeprefix(f"{module}.") for n in sys.modules if n.startswith(f"{module}.")}
    return frozenset(dir(held)) | {n for n in inner if "." not in n}


class _Judge:
    """What a path's bytes come to; ``lead``: bytes before the name in its first token."""

    def __init__(self, lead: bytes, names: Iterable[str]) -> None:
        self.lead = lead
        self.names = frozenset(n.encode() for n in names)
        self.starts = frozenset(n[:k] for n in self.names for k in range(1, len(n) + 1))

    def __call__(self, data: bytes) -> tuple[str, bytes]:
        """(``known``, ``invented``, ``other`` or ``open``; the name as far as it goes)."""
        if len(data) <= len(self.lead):
            return ("open" if self.lead.startswith(data) else "other"), b""
        if not data.startswith(self.lead):
            return "other", b""
        rest = data[len(self.lead) :]
        match = _NAME.match(rest)
        name = match.group() if match else b""
        if not name or name[:1].isdigit():
            return "other", b""
        if len(name) == len(rest):
            return ("open" if name in self.starts else "invented"), name
        return ("known" if name in self.names else "invented"), name


def _walk(
    engine: Engine, trace: Trace, place: Place, at: int, most: int, control: Control
) -> Invented:
    offset = int(trace.tokens.offsets[at])
    judge = _Judge(trace.tokens.data[offset : place.start], place.names)
    mass = {"known": 0.0, "invented": 0.0, "other": 0.0}
    names: dict[bytes, float] = {}
    tail = 0.0
    pieces = _Pieces(engine)
    with engine.turn, torch.inference_mode():
        root = engine.stepper.start()
        scores = _last(engine, root, trace.ids[:at].tolist())
    heap: list[tuple[float, int, bytes, tuple[int, ...], Any]] = [(-1.0, 0, b"", (), scores)]
    number = nodes = 0
    while heap and nodes < most:
        minus, _, data, ids, row = heapq.heappop(heap)
        if row is None:
            control.step(nodes, most, "names")
            with engine.turn, torch.inference_mode():
                row = _last(engine, engine.stepper.fork(root, at), list(ids))
        nodes += 1
        p = np.exp(row)
        order = np.argsort(-p)
        enough = int(np.searchsorted(np.cumsum(p[order]), 1.0 - TAIL)) + 1
        tail += -minus * max(0.0, 1.0 - math.fsum(p[order[:enough]].tolist()))
        for ident in order[:enough].tolist():
            share = -minus * float(p[ident])
            piece = pieces(ident)
            state, name = judge(data + piece) if piece else ("other", b"")
            if state == "open":
                number += 1
                heapq.heappush(heap, (-share, number, data + piece, (*ids, ident), None))
                continue
            mass[state] += share
            if state == "invented":
                names[name] = names.get(name, 0.0) + share
    unexplored = tail + math.fsum(-m for m, *_ in heap)
    best = sorted(names.items(), key=lambda x: -x[1])[:SHOWN]
    written = _NAME.match(trace.tokens.data, place.start)
    return Invented(
        at, place.start, place.what, "" if written is None else written.group().decode(),
        mass["known"], mass["invented"], mass["other"], unexplored,
        tuple((n.decode("ascii", "replace"), m) for n, m in best), nodes,
    )  # fmt: skip


def _last(engine: Engine, state: Any, ids: list[int]) -> NDArray[np.float64]:
    """The logprobs float64 (V,) after ``ids``."""
    scores = engine.stepper.extend(Feed(state, ids)).scores
    assert isinstance(scores, Full)
    row = torch.as_tensor(scores.block(len(scores) - 1, len(scores)))[0]
    made: NDArray[np.float64] = torch.log_softmax(row.double(), dim=-1).cpu().numpy()
    return made


class _Pieces:
    """Bytes of ids; what is no id of the vocabulary (padding of the scores) ends a name."""

    def __init__(self, engine: Engine) -> None:
        self._words = engine.vocabulary
        self._held: dict[int, bytes] = {}

    def __call__(self, ident: int) -> bytes:
        if ident not in self._held:
            try:
                self._held[ident] = self._words.piece(ident)
            except InputError:
                self._held[ident] = b""
        return self._held[ident]
