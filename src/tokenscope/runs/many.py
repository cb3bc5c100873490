"""Several sequences at once, driven by one thread: their steps go through the model together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.runs.generate import begin, fork, generate, same_numbers
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.record import Trace

WIDTH = 16  # sequences under way at a time
FORKS = 32  # branches under way at a time
Request = str | Mapping[str, Any]
Watch = Callable[[int, Run, Step], None]


class Branch(NamedTuple):
    """A branch that is asked for; a plain tuple of the first three will do.

    ``token``: as in ``runs.generate.fork``. ``own``: settings for this one alone (its seed, say).
    """

    trace: Trace
    at: int
    token: str | int | Sequence[int]
    own: Mapping[str, Any] = {}


def together(
    runs: Iterable[Run], width: int = WIDTH, watch: Watch | None = None
) -> Iterator[tuple[int, Run]]:
    """Iterate runs to their ends, ``width`` at a time; yields (number, run) as each ends.

    Runs are taken from the iterable as places become free, so it may make them on the way (and
    may ask for more by what has ended). ``watch`` is told every Step as it comes, and may cancel
    the run. An error of one ends the loop when it is that run's turn; the others keep what they
    have.
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
            step = next(iter(run), None)
            if step is None:
                del active[number]
                yield number, run
            elif watch is not None:
                watch(number, run, step)


def generate_many(
    engine: Engine, requests: Iterable[Request], settings: Settings = Settings(), width: int = WIDTH
) -> list[Trace]:
    """One trace per request, in their order: the same ids as one after another.

    A request is a prompt, or a mapping with ``prompt``, ``suffix``, ``messages``, ``language`` and
    any of the settings for it alone.
    """
    started = (_started(engine, r, settings) for r in requests)
    return _in_order(together(started, width))


def fork_many(
    engine: Engine,
    branches: Iterable[Branch | tuple[Trace, int, str | int | Sequence[int]]],
    settings: Settings = Settings(),
    width: int = FORKS,
    watch: Watch | None = None,
) -> list[Trace]:
    """One branch per (trace, at, token), in their order: the same ids as ``fork`` one by one.

    ``width`` of them decode at a time, in one pass a step. The memory of a trace is read once, and
    all its branches share it. ``watch``: see ``together``. Raises what ``fork`` raises, before the
    branch in question begins.
    """
    return _in_order(together(forks(engine, branches, settings), width, watch))


def forks(
    engine: Engine,
    branches: Iterable[Branch | tuple[Trace, int, str | int | Sequence[int]]],
    settings: Settings = Settings(),
) -> Iterator[Run]:
    """The runs of ``fork_many``, each made when it is taken: for ``together``."""
    asked = [Branch(*b) for b in branches]
    ends: dict[int, int] = {}
    for b in asked:
        ends[id(b.trace)] = max(b.at, ends.get(id(b.trace), 0))
    for b in asked:
        chosen = _own(settings, b.own, "branches")
        run = fork(engine, b.trace, b.at, b.token, chosen)  # refused before anything is read
        if (end := ends.pop(id(b.trace), 0)) > 1:
            _read(engine, b.trace, end, chosen)
        yield run


def _read(engine: Engine, trace: Trace, end: int, settings: Settings) -> None:
    """Have a memory of the first ``end`` tokens kept, for branches to share; measures nothing."""
    if engine.abilities.fork != "crop":
        return  # such a memory is kept where a prompt ends, and nowhere else
    start = trace.cut(end)
    settings = replace(settings, max_new_tokens=0, attention="none")
    usable = start if same_numbers(engine, trace, settings) else None
    run = begin(
        engine, start.tokens, "score", settings, n_prompt=min(trace.n_prompt, end), parent=usable,
        history=trace.origin.cut(end),
    )  # fmt: skip
    run.result()


def _in_order(ended: Iterable[tuple[int, Run]]) -> list[Trace]:
    done = {number: run.trace for number, run in ended}
    return [done[n] for n in sorted(done)]


def _own(settings: Settings, own: Mapping[str, Any], name: str) -> Settings:
    if unknown := set(own) - set(Settings.__dataclass_fields__):
        raise InputError(name, f"unknown setting {sorted(unknown)[0][:40]!r}")
    return replace(settings, **own)


def _started(engine: Engine, request: Request, settings: Settings) -> Run:
    if isinstance(request, str):
        return generate(engine, prompt=request, settings=settings)
    asked = ("prompt", "suffix", "messages", "language")
    own = {k: v for k, v in request.items() if k not in asked}
    form = {k: request[k] for k in asked if k in request}
    return generate(engine, settings=_own(settings, own, "requests"), **form)
