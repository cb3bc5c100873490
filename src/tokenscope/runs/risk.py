"""Risk mass of a finding: the line that led into it is enumerated anew, and every path checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tokenscope.code.viable import judge as viability
from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.evidence.check import Code, Options, find
from tokenscope.evidence.risk import Decided, Path, Risk, Span, cost, weigh
from tokenscope.explore.asked import Ask
from tokenscope.explore.intervals import wilson
from tokenscope.explore.keys import Ended
from tokenscope.runs.explore import Exploring
from tokenscope.runs.generate import fork
from tokenscope.runs.many import together
from tokenscope.runs.settings import Settings
from tokenscope.trace.findings import Finding
from tokenscope.trace.record import Trace

PLACES = 4  # tokens at which it is looked whether the finding was decided there
LONGEST = 64  # tokens of the line that leads into a finding
SLACK = 4  # tokens beyond the end of the finding that a path is read for, on the same line
ENUMERATED = "enumerated"
SAMPLED = "sampled, Wilson 95 %"
ENOUGH = 0.1  # less than this left to enumerate: nothing is sampled


@dataclass(frozen=True)
class RiskOf:
    """The risk of ``finding`` from token ``at`` of ``trace`` on. ``written``: what was written,
    read to the end of its line."""

    trace: Trace
    finding: Finding
    at: int
    risk: Risk
    written: Trace

    def to_json(self) -> dict[str, Any]:
        """Plain values: what a report shows. Infinite costs are null."""
        r, free = self.risk, self.risk.free
        decisions = []
        for d in r.decided:
            t = self.written.tokens[self.at + d.at]
            said = f"the risk given what stood before was in {d.before}, after it in {d.after}"
            if d.banned is not None:
                said += f"; with this token banned here it would be in {d.banned}"
            decisions.append(
                {
                    "token": t.index, "start": t.start, "end": t.end, "text": t.text,
                    "before": [d.before.lower, d.before.upper],
                    "after": [d.after.lower, d.after.upper],
                    "banned": None if d.banned is None else [d.banned.lower, d.banned.upper],
                    "ban_cost": _finite(d.ban_cost),
                    "said": f"{said}; to ban it here costs {d.ban_cost:.3g} nats",
                }
            )  # fmt: skip
        safe = None
        if free is not None:
            safe = {
                "start": self.written.tokens[self.at].start, "text": free.text, "mass": free.mass,
                "said": f"the likeliest way without it (probability {free.mass:.3g}) costs "
                        f"{r.price:.3g} nats on this stretch",
            }  # fmt: skip
        best = r.best
        return {
            "rule": self.finding.rule, "at": self.at, "lower": best.lower, "upper": best.upper,
            "method": SAMPLED if best is r.sampled else ENUMERATED, "paths": r.paths,
            "enumerated": [r.risk.lower, r.risk.upper], "unexplored": r.unexplored,
            "sampled": None if r.sampled is None else [r.sampled.lower, r.sampled.upper],
            "draws": r.draws, "price": r.price,
            "cost": [_finite(cost(best.lower)), _finite(cost(best.upper))],
            "decisions": decisions, "safe": safe, "said": str(self),
        }  # fmt: skip

    def __str__(self) -> str:
        r, best = self.risk, self.risk.best
        how = f"{r.draws} draws, Wilson 95 %" if best is r.sampled else f"{r.paths} paths"
        return (
            f"From token {self.at} on, the model's own continuations (temperature 1) carry this "
            f"finding with a probability in {best} ({how}; enumerated {r.risk}). To be rid of all "
            f"that carry it costs {cost(best.lower):.3g} to {cost(best.upper):.3g} nats."
        )


def risk(
    engine: Engine, trace: Trace, finding: Finding | str, *, at: int | None = None,
    width: int = 8, most: int = 96, horizon: int | None = None, draws: int = 64,
    options: Options = Options(),
    control: Control = QUIET,
) -> RiskOf:  # fmt: skip
    """The risk mass of a finding of ``trace`` (or of its first one by that rule).

    ``at``: the token from which on paths are enumerated; None: the first token of the finding's
    line that the model wrote. ``width``, ``most``, ``horizon``: see ``explore.asked.Ask``. Where
    more than 0.1 is left to enumerate, ``draws`` continuations are drawn (0: never), and as many
    before and after the few tokens that were least settled. Raises InputError where the trace has
    no such finding, or its line is too long.
    """
    if isinstance(finding, str):
        named = [f for f in trace.findings if f.rule == finding]
        if not named:
            raise InputError("finding", "the trace has no finding by this rule")
        finding = named[0]
    held = finding.at(trace.tokens)
    if held.tokens is None:
        raise InputError("finding", "has no tokens")
    start = _start(trace, held) if at is None else at
    end = held.tokens[1]
    if not 1 <= start < end:
        raise InputError("at", f"must lie in 1..{end - 1}, before the end of the finding")
    stretch = trace.tokens.data[int(trace.tokens.offsets[start]) : held.end]
    stop = () if b"\n" in stretch else ("\n",)
    length = end - start + SLACK if horizon is None else horizon
    if length > LONGEST:
        raise InputError("finding", f"more than {LONGEST} tokens lead into it")
    language = language_of(trace)
    judged = Judge(held, language, options, start)
    ask = Ask(width=width, depth=None, horizon=length, most=most, stop=stop)
    explored = Exploring(
        engine, trace, start, ask=ask, outcome=judged, language=language, control=control
    ).run()
    paths = []
    for branch in explored.branches:
        made = explored.trace(branch.name)
        paths.append(
            Path(
                tuple(int(i) for i in made.ids[start:]),
                tuple(float(v) for v in made.column("logprob")[start:]), branch.text_mass,
                explored.keys[branch.name] == "carries", explored.text(branch.name),
                explored.keys[branch.name] != "broken",
            )
        )  # fmt: skip
    if not paths[0].carries:
        raise InputError("finding", "is not there when the text is read to the end of its line")
    weighed = weigh(paths, paths[0])
    written = explored.trace(0)
    if draws and weighed.unexplored > ENOUGH:
        drawn = Draws(engine, written, language, judged, stop, start + length, draws)
        points = weighed.decided or drawn.decided(start, min(end, len(written)))
        weighed = replace(weighed, sampled=drawn.span(start), draws=draws, decided=points)
    return RiskOf(trace, held, start, weighed, written)


@dataclass(frozen=True)
class Draws:
    """Continuations of ``written`` from one of its tokens on, at temperature 1, each checked."""

    engine: Engine
    written: Trace
    language: str
    judge: Judge
    stop: tuple[str, ...]
    end: int
    draws: int

    def span(self, at: int) -> Span:
        """Wilson's interval of the share of continuations from token ``at`` that carry it."""
        settings = Settings(
            max_new_tokens=max(self.end - at, 1), temperature=1.0, alternatives=1,
            attention="none", stop=self.stop, speculate="none",
        )  # fmt: skip
        base = self.written.cut(at)
        runs = (
            fork(self.engine, base, at, "", replace(settings, seed=seed_of(at, n)))
            for n in range(self.draws)
        )
        start = int(self.written.tokens.offsets[self.judge.first])
        hits = 0
        for _, run in together(runs, 32):
            made = run.trace
            data = made.tokens.data + (b"\n" if made.finish == "stop" else b"")
            hits += self.judge(Ended(data, start, self.language, made.finish)) == "carries"
        return Span(*wilson(hits, self.draws))

    def decided(self, start: int, end: int) -> tuple[Decided, ...]:
        """The tokens of the written path after which the share rose beyond its interval, of the
        ``PLACES`` at which the model was least settled."""
        entropy, logp = self.written.column("entropy"), self.written.column("logprob")
        places = sorted(range(start, end), key=lambda t: -float(entropy[t]))[:PLACES]
        made = []
        for t in sorted(places):
            before, after = self.span(t), self.span(t + 1)
            if after.lower > before.upper:
                q = float(np.exp(np.float64(logp[t])))
                nats = -float(np.log1p(-q)) if q < 1 else float("inf")
                ident = int(self.written.ids[t])
                made.append(Decided(t - start, ident, before, after, None, nats))
        return tuple(made)


def seed_of(at: int, number: int) -> int:
    """A seed of its own for every draw at every place."""
    return (at + 1) * 1_000_003 + number


@dataclass(frozen=True)
class Judge:
    """An outcome key: whether a branch carries a finding by the same rule where it was explored."""

    finding: Finding
    language: str
    options: Options
    first: int  # the token from which on it was explored

    def __call__(self, ended: Ended) -> str:
        """``carries``, ``free``, or ``broken`` where nothing that follows can make it parse."""
        judged = ((ended.start, max(len(ended.data), ended.start + 1)),)
        code = Code(ended.data, self.language, False, judged)
        found = find(code, [self.finding.source], self.options).findings
        if any(f.rule == self.finding.rule for f in found):
            return "carries"
        return "broken" if viability(ended.data, self.language) == "not" else "free"


def _start(trace: Trace, finding: Finding) -> int:
    """The first token of the finding's line that the model wrote."""
    assert finding.tokens is not None
    byte = trace.tokens.data.rfind(b"\n", 0, finding.start) + 1
    first = trace.tokens.at_byte(byte) if byte < len(trace.tokens.data) else finding.tokens[0]
    if int(trace.tokens.offsets[first]) < byte:
        first += 1  # the token that ends the line before begins this one too
    written = trace.n_prompt if trace.n_prompt < len(trace) else 1
    return max(1, min(max(first, written), finding.tokens[1] - 1))


def _finite(value: float) -> float | None:
    return value if abs(value) < 1e300 else None
