"""Which span of the text made the choice: found by taking spans out, not by a gradient.

Tokens are taken out one by one (lines first in a long text), then the spans around what matters;
the best span is compared with other spans of its length and with the last tokens of the text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokenscope.control import QUIET, Control
from tokenscope.explain.gradients import F32
from tokenscope.explain.perturb import occlude, occlusion
from tokenscope.explain.places import Span, byte_sums, spans_of, tokens_in
from tokenscope.explain.sentence import Evidence, Reason, best
from tokenscope.explain.target import Asked
from tokenscope.trace.record import Trace

# spans of several tokens that are taken out, by what their tokens cost alone
CANDIDATES = 24
# spans of every line among so many whose loss costs most: parts may back each other up
LINES = 2
# what is handed on to be shown
SHOWN = 8
# spans of the same length that the named one is ranked among
WINDOWS = 40

Tokens = tuple[int, ...]


def find_reasons(
    asked: Asked, trace: Trace, values: F32, control: Control = QUIET
) -> tuple[list[Reason], Evidence]:
    """The spans whose loss costs most, most first, and the evidence beside the best one.

    ``values`` float32 (at,): the attribution that is shown; it proposes nothing.
    """
    alone = occlusion(asked, control).values
    spans = _spans(asked, trace)
    chosen = _proposed(asked, list(spans), alone, control)
    drops = occlude(asked, [np.asarray(g) for g in chosen], control)
    sums = byte_sums(trace.tokens, values)
    found = [
        Reason(spans[g], float(sums[spans[g].end] - sums[spans[g].start]), float(d))
        for g, d in zip(chosen, drops, strict=True)
    ]
    found.sort(key=lambda r: -r.drop)
    top = best(found)
    prior = asked.prior()
    if top is None:
        return found[:SHOWN], Evidence(prior, len(found))
    named = next(g for g in chosen if spans[g] is top.span)
    shown = found[:SHOWN]
    return shown if top in shown else [top, *shown[:-1]], _weighed(
        asked, named, top.drop, prior, len(found), control
    )


def _spans(asked: Asked, trace: Trace) -> dict[Tokens, Span]:
    """Spans that can be named, by the tokens they cover; the start token is none."""
    tokens, at = trace.tokens, asked.target.at
    found: dict[Tokens, Span] = {}
    for span in spans_of(trace, int(tokens.offsets[at])):
        inside = tuple(int(t) for t in tokens_in(tokens, span.start, span.end) if t < at)
        if inside:
            found.setdefault(inside, span)
    return found


def _proposed(asked: Asked, spans: Sequence[Tokens], alone: F32, control: Control) -> list[Tokens]:
    """Every span of one token; of the longer ones those whose tokens cost most alone, and all in
    the lines whose loss costs most."""
    longer = [s for s in spans if len(s) > 1]
    cost = {s: max(float(alone[list(s)].sum()), float(alone[list(s)].max())) for s in longer}
    ranked = sorted(longer, key=lambda s: -cost[s])[:CANDIDATES]
    lines = [np.arange(a, b) for a, b in asked.lines]
    lost = occlude(asked, lines, control)
    for i in np.argsort(-lost)[:LINES]:
        a, b = asked.lines[i]
        ranked += [s for s in longer if a <= s[0] and s[-1] < b][:CANDIDATES]
    single = sorted((s for s in spans if len(s) == 1), key=lambda s: -float(alone[s[0]]))
    return list(dict.fromkeys([*ranked, *single[: 2 * CANDIDATES]]))


def _weighed(
    asked: Asked, named: Tokens, drop: float, prior: float, tried: int, control: Control
) -> Evidence:
    """Rank among spans of the same length that do not touch it, and the recency control."""
    size, n = named[-1] - named[0] + 1, asked.n
    starts = [s for s in range(asked.start, n - size + 1) if not _touch(s, size, named)]
    if len(starts) > WINDOWS:
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, WINDOWS).astype(int)]
    last = n - size
    groups: list[NDArray[np.int64]] = [np.arange(s, s + size) for s in starts]
    free = last >= asked.start and not _touch(last, size, named)
    if free:
        groups.append(np.arange(last, n))
    lost = occlude(asked, groups, control)
    others = lost[: len(starts)]
    return Evidence(
        prior, tried, size, 1 + int((others > drop).sum()), len(others),
        float(lost[-1]) if free else None,
    )  # fmt: skip


def _touch(start: int, size: int, named: Tokens) -> bool:
    return start <= named[-1] and named[0] < start + size
