"""What an exploration will take, told before it starts and refused where it would not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenscope.backends.protocol import ModelInfo
from tokenscope.decode.limits import RESERVE, free_bytes
from tokenscope.errors import CapacityError
from tokenscope.explore.asked import Ask

COLUMNS = 12  # float32 a token, what metrics measure
PER_CHOICE = 4 + 4 + 8 + 4  # an id and a logprob kept twice: as alternatives and in float64
PER_PIECE = 104  # an entry of a table of pieces
PER_BRANCH = 6_000  # bytes of its objects and of the table of pieces that it names
GROWTH = 9 / 8  # room that a memory's tail keeps to spare, and a few rows
SPARE = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """At most: branches, tokens to decode, bytes held at once. ``seconds``: an estimate by what
    passes have cost so far; None before there was one."""

    branches: int
    tokens: int
    bytes: int
    seconds: float | None

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", about {self.seconds:.1f} s"
        return (
            f"at most {self.branches} branches, {self.tokens} tokens, "
            f"{self.bytes / 1e6:.1f} MB{time}"
        )


@dataclass(slots=True)
class Spent:
    """What it took so far. ``bytes``: held at the last look, of those ``allowed``. ``ended``: what
    was reached before all was decoded that was asked for (``tokens``, ``memory``, ``branches``)."""

    tokens: int = 0
    seconds: float = 0.0
    bytes: int = 0
    allowed: int = 0
    ended: Literal["", "tokens", "memory", "branches"] = ""


def cost(
    ask: Ask, info: ModelInfo, at: int, k: int, width: int, pass_ms: float = 0.0
) -> Cost:  # fmt: skip
    """The most that ``ask`` can take from token ``at`` on. ``k``: alternatives kept a position;
    ``width``: branches that decode at once; ``pass_ms``: of a pass over one token."""
    branches = most_branches(ask)
    tokens = branches * ask.horizon
    if ask.budget_tokens is not None:
        tokens = min(tokens, max(ask.budget_tokens, ask.horizon))
        branches = min(branches, tokens)
    held = at * info.state_bytes_per_token + at * per_token(k)
    held += branches * per_branch(ask, info, at, k)
    seconds = None
    if pass_ms:
        # a pass over several branches costs more than one over one, but far from as many times
        passes = tokens / max(1, min(width, branches))
        seconds = passes * pass_ms * (1 + 0.15 * (min(width, branches) - 1)) / 1e3
    return Cost(branches, tokens, int(held), seconds)


def most_branches(ask: Ask) -> int:
    """How many branches there can be."""
    if ask.way == "sampled":
        return min(ask.draws, ask.most)
    span = ask.horizon
    if ask.region is not None:
        span = min(span, ask.region[1] - ask.region[0])
    depth = span if ask.depth is None else min(ask.depth, span)
    if ask.way == "greedy":
        return min(ask.most, 1 + depth * ask.width)
    total = 1
    for _ in range(depth):
        total *= ask.width
        if total >= ask.most:
            return ask.most
    return total


def per_token(k: int) -> int:
    """Bytes of what is kept of a token: columns, alternatives, what was read."""
    return 4 * COLUMNS + PER_CHOICE * k + 16


def per_branch(ask: Ask, info: ModelInfo, at: int, k: int) -> int:
    """Bytes of one branch that reaches the horizon: its rows, its memory of its own tokens, and
    the measured start that is kept with that memory (of the whole text, with a table of pieces)."""
    state = (ask.horizon * GROWTH + SPARE) * info.state_bytes_per_token
    whole = at + ask.horizon
    kept = whole * (4 * COLUMNS + 8 * k)
    table = PER_PIECE * min(info.vocab or whole * k, whole * k)
    return int(state + kept + table + ask.horizon * per_token(k) + PER_BRANCH)


def allowance(info: ModelInfo, budget: int | None) -> int:
    """Bytes that may be held: ``budget``, or a share of what is free on the device."""
    return int(free_bytes(info.device) * RESERVE) if budget is None else budget


def refuse(
    found: Cost, ask: Ask, info: ModelInfo, at: int, k: int, budget: int | None
) -> None:  # fmt: skip
    """Raises CapacityError, with the branches that would fit, when it may take more than
    ``budget`` bytes (None: what is free on the device)."""
    allowed = allowance(info, budget)
    if found.bytes <= allowed:
        return
    one = per_branch(ask, info, at, k)
    fits = max(0, (allowed - (found.bytes - found.branches * one)) // one)
    raise CapacityError(
        f"{found.branches} branches of {ask.horizon} tokens may take {found.bytes / 1e6:.1f} MB, "
        f"{allowed / 1e6:.1f} MB are allowed; {fits} branches would fit", fits=fits,
    )  # fmt: skip
