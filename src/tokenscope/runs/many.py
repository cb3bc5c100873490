"""Several sequences at once, driven by one thread: their steps go through the model together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.runs.generate import generate
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.record import Trace

WIDTH = 16  # sequences under way at a time
Request = str | Mapping[str, Any]


def together(runs: Iterable[Run], width: int = WIDTH) -> Iterator[tuple[int, Run]]:
    """Iterate runs to their ends, ``width`` at a time; yields (number, run) as each ends.

    Runs are taken from the iterable as places become free, so it may make them on the way. An
    error of one ends the loop when it is that run's turn; the others keep what they have.
    """
    waiting = enumerate(runs)
    active: dict[int, Run] = {}
    while True:
        while len(active) < width and (entry := next(waiting, None)) is not None:
            active[entry[0]] = entry[1]
            entry[1].join_others()
        if not active:
            return
        for number, run in list(active.items()):
            if next(iter(run), None) is None:
                del active[number]
                yield number, run


def generate_many(
    engine: Engine, requests: Iterable[Request], settings: Settings = Settings(), width: int = WIDTH
) -> list[Trace]:
    """One trace per request, in their order: the same ids as one after another.

    A request is a prompt, or a mapping with ``prompt``, ``suffix``, ``messages``, ``language`` and
    any of the settings for it alone.
    """
    started = (_started(engine, r, settings) for r in requests)
    done = {number: run.trace for number, run in together(started, width)}
    return [done[n] for n in sorted(done)]


def _started(engine: Engine, request: Request, settings: Settings) -> Run:
    if isinstance(request, str):
        return generate(engine, prompt=request, settings=settings)
    asked = ("prompt", "suffix", "messages", "language")
    own = {k: v for k, v in request.items() if k not in asked}
    if unknown := set(own) - set(Settings.__dataclass_fields__):
        raise InputError("requests", f"unknown setting {sorted(unknown)[0][:40]!r}")
    form = {k: request[k] for k in asked if k in request}
    return generate(engine, settings=replace(settings, **own), **form)
