"""A trace as coloured text."""

from __future__ import annotations

import math

from tokenscope.pictures.paper import framed, head, legend, safe, share, step
from tokenscope.trace.drawn import PICTURES, Picture
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Token

MAX_TOKENS = 4000
DEFAULT = "surprisal"
SHOWN = ("probability", "surprisal", "rank", "entropy", "margin")


def tokens(trace: Trace, column: str = "") -> Picture:
    """Every token coloured by ``column``; its numbers and alternatives when pointed at.

    The prompt is in quiet ink. Only the first 4,000 tokens are drawn, and that is said.
    Raises UnknownName.
    """
    name = column or (DEFAULT if DEFAULT in trace.columns else next(iter(trace.columns), ""))
    if column:
        trace.column_of(column)
    drawn = min(len(trace), MAX_TOKENS)
    parts = [span(trace, trace.tokens[t], name) for t in range(drawn)]
    more = f"<i> ... {len(trace) - drawn} more tokens</i>" if drawn < len(trace) else ""
    scale = legend(trace.column_of(name).spec) if name else ""
    inside = f'{head(*facts(trace), legend=scale)}<div class="code">{"".join(parts)}{more}</div>'
    return Picture(f"{trace.origin.model or 'trace'}: {name}", framed(inside))


def facts(trace: Trace) -> list[str]:
    """Model, size and perplexity."""
    s = trace.summary()
    made = [
        trace.origin.model or "trace",
        f"{int(s['prompt_tokens'])} + {int(s['generated_tokens'])} tokens",
    ]
    if math.isfinite(s["perplexity"]):
        made.append(f"perplexity {s['perplexity']:.2f}")
    return made


def span(trace: Trace, token: Token, name: str, extra: str = "") -> str:
    """One token in the colour of a column (given ones in quiet ink), with its title."""
    classes = [extra] if extra else []
    if token.index < trace.n_prompt < len(trace):
        classes.append("given")
    elif name:
        value = float(trace.column(name)[token.index])
        classes.append(step(share(trace.column_of(name).spec, value)))
    if token.special:
        classes.append("mark")
    return (
        f'<span class="{" ".join(c for c in classes if c)}" title="{safe(title(trace, token))}">'
        f"{safe(token.text)}</span>"
    )


def title(trace: Trace, token: Token) -> str:
    """A token's numbers and alternatives as lines of text."""
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
            lines.append(f"{math.exp(a.logprob):.3f} {text!r}{mark}")
    return "\n".join(lines)


PICTURES.add("tokens", tokens)
