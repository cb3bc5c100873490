"""A trace as one self-contained piece of HTML, for notebooks. No script, nothing fetched."""

from __future__ import annotations

import html
import math

from tokenscope.trace.columns import ColumnSpec
from tokenscope.trace.display import visible
from tokenscope.trace.record import VIEWS, Trace
from tokenscope.trace.tokens import Token

MAX_TOKENS = 4000
DEFAULT = "surprisal"
SHOWN = ("probability", "surprisal", "rank", "entropy", "margin")
# Lightness falls evenly from paper to deep blue: readable in grey and for the colour-blind.
LOW, HIGH = (255, 253, 244), (68, 103, 196)
STYLE = (
    "font:13px/1.65 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;"
    "color:#1b1f2a;background:#fffefa;border:1px solid #ddd8c8;border-radius:6px;padding:10px 12px"
)


def share(spec: ColumnSpec, value: float) -> float | None:
    """Where a value lies between the ends of its column's scale, 0..1; None if undefined."""
    if not math.isfinite(value):
        return None
    lo = spec.lo if spec.lo is not None else 0.0
    hi = spec.hi if spec.hi is not None else lo + 20.0
    if spec.scale == "log":
        value, lo, hi = (math.log(max(v, 1e-12)) for v in (value, lo, hi))
    x = min(max((value - lo) / (hi - lo), 0.0), 1.0)
    return 1.0 - x if spec.better == "high" else x


def picture(trace: Trace, column: str = DEFAULT) -> str:
    """Every token coloured by ``column``; its numbers and alternatives on hover.

    The prompt is in quiet ink. Only the first 4,000 tokens are drawn, and that is said.
    """
    name = column if column in trace.columns else next(iter(trace.columns), "")
    drawn = min(len(trace), MAX_TOKENS)
    parts = [_token(trace, trace.tokens[t], name) for t in range(drawn)]
    more = f"<i> ... {len(trace) - drawn} more tokens</i>" if drawn < len(trace) else ""
    return f'<div style="{STYLE}">{_head(trace, name)}{"".join(parts)}{more}</div>'


def _head(trace: Trace, name: str) -> str:
    s = trace.summary()
    facts = [
        html.escape(trace.origin.model or "trace"),
        f"{int(s['prompt_tokens'])} + {int(s['generated_tokens'])} tokens",
    ]
    if math.isfinite(s["perplexity"]):
        facts.append(f"perplexity {s['perplexity']:.2f}")
    legend = ""
    if name:
        spec = trace.column_of(name).spec
        lo = spec.lo if spec.lo is not None else 0.0
        hi = spec.hi if spec.hi is not None else lo + 20.0
        ends = (hi, lo) if spec.better == "high" else (lo, hi)
        bar = f"linear-gradient(90deg,rgb{LOW},rgb{HIGH})"
        legend = (
            f"{html.escape(spec.title)} {ends[0]:g} "
            f'<span style="display:inline-block;width:90px;height:9px;background:{bar};'
            f'border:1px solid #ddd8c8"></span> {ends[1]:g} {html.escape(spec.unit)}'
        )
    return (
        f'<div style="font:12px system-ui,sans-serif;color:#5c6170;margin-bottom:8px;'
        f'display:flex;justify-content:space-between"><span>{" &middot; ".join(facts)}</span>'
        f"<span>{legend}</span></div>"
    )


def _token(trace: Trace, token: Token, name: str) -> str:
    ink = "color:#7a7f8c" if token.index < trace.n_prompt else ""
    if name and token.index >= trace.n_prompt:
        x = share(trace.column_of(name).spec, float(trace.column(name)[token.index]))
        if x is not None:
            colour = tuple(round(a + (b - a) * x) for a, b in zip(LOW, HIGH, strict=True))
            ink = f"background:rgb{colour};color:{'#ffffff' if x > 0.62 else '#1b1f2a'}"
    text = visible(token.text)
    if token.special:
        ink += ";border:1px solid #c9c3b0;border-radius:3px;padding:0 3px"
    return (
        f'<span style="{ink}" title="{html.escape(_title(trace, token), quote=True)}">'
        f"{html.escape(text)}</span>"
    )


def _title(trace: Trace, token: Token) -> str:
    lines = [f"token {token.index}, id {token.id}"]
    for name in SHOWN:
        if name in trace.columns:
            value = float(trace.column(name)[token.index])
            if math.isfinite(value):
                unit = trace.column_of(name).spec.unit
                lines.append(f"{name} {value:.4g} {unit}".rstrip())
    if trace.alternatives is not None:
        for a in trace.alternatives.row(token.index, token.id)[:8]:
            text = a.label or a.bytes.decode("utf-8", "replace")
            mark = " <" if a.chosen else ""
            lines.append(f"{math.exp(a.logprob):.3f} {visible(repr(text))}{mark}")
    return "\n".join(lines)


VIEWS.add("html", picture)
