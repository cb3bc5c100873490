"""A tree of traces: its branches one under another, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenscope.pictures.paper import framed, head, legend, safe, share, step
from tokenscope.pictures.tokens import DEFAULT, span
from tokenscope.trace.columns import describe
from tokenscope.trace.drawn import PICTURES, Picture
from tokenscope.trace.tree import Branch, Tree

MOST_BRANCHES = 200
MOST_BESIDE = 8
EXCERPT = 28  # tokens of a branch that are drawn in the tree
BEFORE = 400  # tokens of the common start that are drawn above branches side by side
STYLE = (
    ".tks .branch{display:grid;grid-template-columns:minmax(240px,42%) 1fr;gap:0 14px;"
    "border-top:1px solid var(--line);padding:4px 0}"
    ".tks .branch .what{overflow-wrap:anywhere}"
    ".tks .branch .bar{display:inline-block;height:8px;background:var(--accent);"
    "vertical-align:middle;margin-right:4px;forced-color-adjust:none}"
    ".tks .branch .code{font-size:12px;max-height:5em;overflow:hidden}"
    ".tks .beside{display:grid;grid-auto-columns:minmax(220px,1fr);grid-auto-flow:column;"
    "gap:12px;overflow-x:auto}"
    ".tks .beside>div{border-left:2px solid var(--line);padding-left:8px}"
    ".tks .common{max-height:12em;overflow:auto;margin-bottom:8px}"
)


def tree(made: Tree) -> Picture:
    """Every branch behind the one it grew from: which token it has for which, how long it is, how
    sure the model was of its own tokens (mean surprisal, joint log-probability), how it begins."""
    rows = made.rows()
    shown = rows[:MOST_BRANCHES]
    means = [r["mean_surprisal"] for r in shown if r["mean_surprisal"] is not None]
    most = max(means, default=0.0) or 1.0
    body = "".join(_row(made[r["name"]], r, most) for r in shown)
    more = (
        f"<p>... and {len(rows) - len(shown)} more branches</p>" if len(rows) > len(shown) else ""
    )
    facts = head(f"{len(rows)} branches", legend=legend(describe(DEFAULT)))
    return Picture(f"Tree of {len(rows)} branches", framed(facts + body + more, STYLE))


def _row(branch: Branch, row: dict[str, Any], most: float) -> str:
    change = ""
    if branch.parent is not None:
        own, instead = safe(repr(row["own"])), safe(repr(row["instead"]))
        change = f' <span class="quiet">at {row["at"]}: <b>{own}</b> for {instead}</span>'
    figures = f"{row['tokens']} tokens"
    if row["mean_surprisal"] is not None:
        width = round(60 * row["mean_surprisal"] / most)
        figures = (
            f'<span class="bar" style="width:{width}px"></span>{row["mean_surprisal"]:.2f} nats '
            f"each &middot; {row['joint_logprob']:.1f} together &middot; {figures}"
        )
    name, indent = safe(branch.title or branch.name), min(row["depth"], 40) * 14
    return (
        f'<div class="branch"><div class="what" style="padding-left:{indent}px">'
        f"{'&#8627; ' if branch.parent is not None else ''}<b>{name}</b>{change}<br>"
        f'<span class="quiet">{figures}</span></div>'
        f'<div class="code">{_text(branch, EXCERPT)}</div></div>'
    )


def _begin(branch: Branch) -> int:
    trace = branch.trace
    return branch.at if branch.parent is not None else trace.n_prompt % max(len(trace), 1)


def _text(branch: Branch, most: int, begin: int | None = None, column: str = DEFAULT) -> str:
    trace, start = branch.trace, _begin(branch) if begin is None else begin
    name = column if column in trace.columns else ""
    end = min(len(trace), start + most)
    own = branch.at if branch.parent is not None else -1
    parts = [
        span(trace, trace.tokens[t], name, "here" if t == own else "") for t in range(start, end)
    ]
    return "".join(parts) + (" &hellip;" if end < len(trace) else "")


def beside(made: Tree, names: Sequence[str] = (), column: str = DEFAULT) -> Picture:
    """Branches side by side from the token on in which they first differ, in one scale; what they
    share stands above. ``names``: which (all, up to 8). Raises NotFound."""
    chosen = [made[n] for n in names or list(made.branches)][:MOST_BESIDE]
    common = shared([b.trace.ids.tolist() for b in chosen])
    first = chosen[0].trace if chosen else None
    above = ""
    if first is not None:
        start = max(0, common - BEFORE)
        texts = "".join(safe(first.tokens[t].text) for t in range(start, common))
        above = f'<div class="code given common">{"&hellip; " if start else ""}{texts}</div>'
    columns = "".join(
        f'<div><div class="head"><b>{safe(b.title or b.name)}</b>{_figures(b, common)}</div>'
        f'<div class="code">{_text(b, 2000, common, column)}</div></div>'
        for b in chosen
    )
    facts = head(f"{common} tokens shared", legend=legend(describe(column)))
    inside = f'{facts}{above}<div class="beside">{columns}</div>'
    return Picture("Branches side by side", framed(inside, STYLE))


def shared(sequences: list[list[int]]) -> int:
    """How many ids all sequences begin with in common."""
    n = 0
    for ids in zip(*sequences, strict=False):
        if len(set(ids)) > 1:
            break
        n += 1
    return n


def _figures(branch: Branch, begin: int) -> str:
    trace = branch.trace
    if "surprisal" not in trace.columns:
        return ""
    values = trace.column("surprisal")[begin:].astype(float)
    values = values[values == values]
    if not len(values):
        return ""
    mark = step(share(trace.column_of("surprisal").spec, float(values.mean())))
    return f'<span class="{mark}">{values.mean():.2f} nats each over {len(values)}</span>'


PICTURES.add("tree", tree)
PICTURES.add("beside", beside)
