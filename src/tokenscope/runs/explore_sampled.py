"""The sampled way: n continuations under a sampler, each by a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.errors import InputError
from tokenscope.runs.many import FORKS, Branch, forks, together
from tokenscope.runs.settings import Settings
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    from tokenscope.runs.explore import Exploring

FIELDS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "edits",
)  # fmt: skip
WARM = 1.0  # the temperature where the trace's own sampler draws nothing (it is greedy)


def sampler_of(trace: Trace, at: int, given: Mapping[str, Any]) -> Settings:
    """The sampler and edits that made token ``at`` of a trace (else the last ones), changed by
    ``given``. Raises InputError."""
    if unknown := set(given) - set(FIELDS):
        raise InputError("sampler", f"unknown setting {sorted(unknown)[0][:40]!r}")
    segment = trace.origin.segment(at) if at < len(trace) else None
    if segment is None and trace.origin.segments:
        segment = trace.origin.segments[-1]
    held = Settings.of(segment) if segment is not None else Settings()
    return replace(held, **given)


def warm(settings: Settings) -> Settings:
    """A greedy sampler draws at temperature 1, the model's own distribution."""
    return settings if settings.temperature > 0.0 else replace(settings, temperature=WARM)


def draw(work: Exploring, settings: Settings) -> Iterator[list[int]]:
    """Draw wave by wave. Gives the names of the branches that are new, or were drawn again."""
    frontier, ask = work.frontier, work.ask
    start = work.written.cut(work.at)
    known = {tuple(_path(work, b.name)): b.name for b in frontier.branches}
    done = sum(b.draws for b in frontier.branches)
    while done < ask.draws and not work.control.cancelled:
        count = min(FORKS, ask.draws - done)
        if ask.budget_tokens is not None:
            count = min(count, (ask.budget_tokens - work.spent.tokens) // ask.horizon)
        fits = work.fits()
        if count <= 0 or not fits:
            work.spent.ended = "tokens" if count <= 0 else "memory"
            return
        count = min(count, fits)
        asked = [
            Branch(start, work.at, "", {"seed": settings.seed + 1 + done + n}) for n in range(count)
        ]
        plain = replace(
            settings, max_new_tokens=ask.horizon, alternatives=work.k, attention="none",
            stop=ask.stop,
        )  # fmt: skip
        made: dict[int, Trace] = {}
        for n, run in together(forks(work.engine, asked, plain), FORKS, work.watch):
            made[n] = run.trace
        if work.control.cancelled:
            return
        names: list[int] = []
        for n in range(count):
            trace = made[n]
            work.spent.tokens += len(trace) - work.at
            end, finish = work.cut(trace, work.at, b"")
            names.append(_add(work, known, trace.cut(end), finish))
        done += count
        for branch in frontier.branches:
            branch.mass = branch.draws / done
        # what no text that was drawn holds: the drawn texts' own probabilities are known exactly
        frontier.lost.other_tokens = max(
            0.0, 1.0 - math.fsum(b.text_mass for b in frontier.branches)
        )
        yield sorted(set(names))


def _add(work: Exploring, known: dict[tuple[int, ...], int], trace: Trace, finish: str) -> int:
    """Count a draw: one more of a branch that is there, or a new one, from where it leaves the
    path that shares most with it."""
    path = tuple(int(i) for i in trace.ids[work.at :])
    name = known.get(path)
    if name is None:
        parent, shared = None, 0
        for other, held in known.items():
            common = next(
                (n for n, (a, b) in enumerate(zip(path, other, strict=False)) if a != b),
                min(len(path), len(other)),
            )
            if parent is None or common > shared:
                parent, shared = held, common
        name = len(work.frontier.branches)
        own = work.keep(parent, work.at + shared, trace, finish)
        logq = trace.column("logprob_sampled")[work.at :].astype(np.float64)
        text_mass = math.exp(math.fsum(logq.tolist()))
        work.frontier.drawn(parent, work.at + shared, own, work.read(name), finish, text_mass)
        known[path] = name
    work.frontier.branches[name].draws += 1
    return name


def _path(work: Exploring, name: int) -> list[int]:
    return [int(i) for i in work.trace(name).ids[work.at :]]
