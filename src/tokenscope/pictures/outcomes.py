"""What an exploration came to: outcomes by mass, what is unexplored, the decisions behind them."""

from __future__ import annotations

from typing import Any, Protocol

from tokenscope.pictures.paper import framed, head, safe, step
from tokenscope.trace.drawn import PICTURES, Picture

MOST_OUTCOMES = 40
MOST_DECISIONS = 12
WAYS = {
    "enumerated": "exact masses",
    "sampled": "shares of paths that were drawn, Wilson intervals",
    "greedy": "masses of the alternatives alone; what follows each is one greedy continuation",
}
STYLE = (
    ".tks .masses{display:flex;height:22px;border:1px solid var(--line);margin-bottom:8px}"
    ".tks .masses i{overflow:hidden;font:11px/20px ui-monospace,monospace;padding:0 3px;"
    "border-right:1px solid var(--paper);white-space:nowrap}"
    ".tks .open{background:repeating-linear-gradient(135deg,var(--line) 0 3px,"
    "var(--paper) 3px 7px);color:var(--ink);forced-color-adjust:none}"
    ".tks .outcomes :is(td,th):last-child{text-align:left;white-space:pre-wrap;"
    "overflow-wrap:anywhere}"
)


class Exploration(Protocol):
    """What is drawn: see ``runs.explored``."""

    def to_json(self) -> dict[str, Any]: ...


def outcomes(made: Exploration) -> Picture:
    """A bar of the whole mass, the unexplored part hatched and never left out; then each outcome
    with its mass, its bounds and the likeliest branch that comes to it; then the decisions, by how
    much of their uncertainty changes the outcome (semantic) or not (cosmetic), in nats."""
    held = made.to_json()
    found, lost = held["outcomes"], held["unexplored"]
    masses = [o["mass"] for o in found]
    largest = max(masses, default=1.0) * 1.4  # the darkest steps are kept for whole columns
    parts = [
        f'<i class="{step(m / largest)}" style="flex:{m:.6f} 0 0" '
        f'title="outcome {safe(o["name"])}: {m:.4g}">{safe(o["name"])}</i>'
        for o, m in zip(found, masses, strict=True) if m > 0
    ]  # fmt: skip
    if lost > 0:
        parts.append(
            f'<i class="open" style="flex:{lost:.6f} 0 0" title="unexplored: {lost:.4g}"></i>'
        )
    rows = "".join(
        f"<tr><th>{safe(o['name'])}</th><td>{o['mass']:.4f}</td>"
        f"<td>[{o['low']:.4f}, {o['high']:.4f}]</td><td>{len(o['branches'])}</td>"
        f"<td>{safe(o['label'])}</td></tr>"
        for o in found[:MOST_OUTCOMES]
    )
    if more := masses[MOST_OUTCOMES:]:
        rows += f"<tr><th></th><td>{sum(more):.4f}</td><td colspan=3>in {len(more)} more</td></tr>"
    rows += f'<tr><th class="open">&nbsp;</th><td>{lost:.4f}</td><td colspan=3>unexplored</td></tr>'
    spread = held["entropy"]
    facts = head(
        f"{len(found)} outcomes of {len(held['branches'])} branches, told apart by "
        f"{held['outcome_key']}",
        f"{held['way']}: {WAYS.get(held['way'], '')}",
        f"masses of the {held['masses_of']}",
        f"entropy {spread['value']:.3f} [{spread['low']:.3f}, {spread['high']:.3f}] nats",
        "" if held["finished"] else f"not finished ({held['ended'] or 'stopped'})",
    )
    table = (
        "<table class=outcomes><tr><th></th><th>mass</th><th>bounds</th><th>branches</th>"
        f"<th>likeliest</th></tr>{rows}</table>"
    )
    bar = f'<div class="masses">{"".join(parts)}</div>'
    inside = f"{facts}{bar}{table}{_decisions(held['decisions'])}"
    return Picture(f"{len(found)} outcomes", framed(inside, STYLE))


def _decisions(decisions: list[dict[str, Any]]) -> str:
    most = sorted(decisions, key=lambda d: -d["semantic"])[:MOST_DECISIONS]
    if not most:
        return ""
    rows = "".join(
        f"<tr><th>{d['at']}</th><td>{d['branch']}</td><td>{d['semantic']:.3f}</td>"
        f"<td>{d['cosmetic']:.3f}</td><td>{d['entropy']:.3f}</td></tr>"
        for d in most
    )
    return (
        f"<details><summary>{len(decisions)} decisions, those that change most first</summary>"
        "<table><tr><th>token</th><th>branch</th><th>semantic</th><th>cosmetic</th>"
        f"<th>entropy</th></tr>{rows}</table></details>"
    )


PICTURES.add("outcomes", outcomes)
