"""What all pictures share: colours for light and dark, the frame, the legend, safe text.

The steps of a scale grow evenly in lightness from the paper to one hue (two hues for signed
values), so they read in grey and for the colour-blind; the ink on each is the one of two that has
more contrast, never less than 4.5 : 1 (WCAG AA; a test computes it).
"""

from __future__ import annotations

import html
import math

from tokenscope.trace.columns import ColumnSpec
from tokenscope.trace.display import visible

STEPS = 10
Colour = tuple[int, int, int]
OPEN_END = 20.0  # where a column says that its scale has no upper end

# theme -> paper, ink, quiet ink, line, accent; low and high end of a scale; the negative end
THEMES: dict[str, dict[str, Colour]] = {
    "light": {
        "paper": (255, 254, 250), "ink": (27, 31, 42), "quiet": (92, 97, 112),
        "line": (221, 216, 200), "accent": (52, 84, 168), "low": (255, 253, 244),
        "high": (68, 103, 196), "minus": (179, 88, 6),
    },
    "dark": {
        "paper": (20, 23, 31), "ink": (232, 230, 223), "quiet": (158, 163, 176),
        "line": (58, 63, 77), "accent": (150, 180, 255), "low": (26, 30, 40),
        "high": (126, 166, 255), "minus": (255, 170, 90),
    },
}  # fmt: skip
INKS: tuple[Colour, ...] = ((4, 5, 8), (255, 255, 255))  # on the steps of a scale


def mixed(a: Colour, b: Colour, x: float) -> Colour:
    """The colour at ``x`` (0..1) between two."""
    red, green, blue = (round(p + (q - p) * x) for p, q in zip(a, b, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance, 0..1 (WCAG 2)."""
    parts = [c / 255 for c in colour]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: Colour, b: Colour) -> float:
    """Contrast ratio, 1..21 (WCAG 2)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def step_colours(theme: str, sign: str) -> list[tuple[Colour, Colour]]:
    """(paper, ink) of the steps of a scale; ``sign`` "q": towards ``high``, "n": to ``minus``."""
    held = THEMES[theme]
    end = held["high" if sign == "q" else "minus"]
    found = [mixed(held["low"], end, i / (STEPS - 1)) for i in range(STEPS)]
    return [(c, max(INKS, key=lambda ink: contrast(ink, c))) for c in found]


def _variables(theme: str) -> str:
    names = ("paper", "ink", "quiet", "line", "accent")
    parts = [f"--{n}:{_css(THEMES[theme][n])}" for n in names]
    for sign in "qn":
        for i, (paper, ink) in enumerate(step_colours(theme, sign)):
            parts.append(f"--{sign}{i}:{_css(paper)};--{sign}i{i}:{_css(ink)}")
    return ";".join(parts)


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


# A notebook says itself whether it is dark; only where nothing does, the system is asked.
_DARK = ('[data-jp-theme-light="false"] .tks', ".vscode-dark .tks", "html[theme=dark] .tks")
_LIGHT = ('[data-jp-theme-light="true"] .tks', ".vscode-light .tks", "html[theme=light] .tks")
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
STYLE = (
    f".tks{{{_variables('light')}}}"
    f"@media (prefers-color-scheme:dark){{.tks{{{_variables('dark')}}}}}"
    f"{','.join(_LIGHT)}{{{_variables('light')}}}{','.join(_DARK)}{{{_variables('dark')}}}"
    ".tks{font:13px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);"
    "border:1px solid var(--line);border-radius:6px;padding:10px 12px;overflow:auto;"
    "text-align:left;position:relative}"
    ".tks *{box-sizing:border-box}"
    ".tks .head{display:flex;flex-wrap:wrap;gap:2px 18px;justify-content:space-between;"
    "font-size:12px;color:var(--quiet);margin-bottom:8px}"
    ".tks .head b{color:var(--ink);font-weight:600}"
    f".tks .code{{font:13px/1.65 {MONO};white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4}}"
    ".tks .given,.tks .quiet{color:var(--quiet)}"
    ".tks .mark{border:1px solid var(--line);border-radius:3px;padding:0 3px}"
    ".tks .here{outline:2px solid var(--accent);outline-offset:1px;border-radius:2px}"
    ".tks .legend{white-space:nowrap}"
    ".tks .legend i{display:inline-block;width:9px;height:9px;forced-color-adjust:none}"
    ".tks table{border-collapse:collapse;background:none;border:0;margin:0}"
    ".tks tr,.tks tr:nth-child(even),.tks tr:hover{background:none}"
    f".tks td,.tks th{{font:11px/1.4 {MONO};padding:1px 4px;text-align:right;border:0;"
    "color:var(--ink);font-weight:400;white-space:pre;max-width:none}"
    ".tks th{color:var(--quiet)}"
    ".tks p{margin:0 0 6px}.tks summary{cursor:pointer;color:var(--quiet);font-size:12px}"
    + "".join(
        f".tks .{s}{i}{{background:var(--{s}{i});color:var(--{s}i{i});forced-color-adjust:none}}"
        for s in "qn" for i in range(STEPS)
    )
)  # fmt: skip


def framed(inside: str, style: str = "") -> str:
    """A picture: the style sheet and what is inside the frame."""
    return f'<style>{STYLE}{style}</style><div class="tks">{inside}</div>'


def head(*facts: str, legend: str = "") -> str:
    """The line above a picture: facts (made safe here), and a legend (made by :func:`legend`)."""
    words = " &middot; ".join(safe(f) for f in facts if f)
    return f'<div class="head"><span>{words}</span><span class="legend">{legend}</span></div>'


def safe(text: str) -> str:
    """Text for HTML, in element or attribute: nothing hidden, nothing that steers, escaped."""
    return html.escape(visible(text), quote=True)


def share(spec: ColumnSpec, value: float) -> float | None:
    """Where a value lies between the ends of its column's scale, 0..1 (1: the unsure end); None
    if undefined."""
    if not math.isfinite(value):
        return None
    lo, hi = ends(spec)
    if spec.scale == "log":
        value, lo, hi = (math.log(max(v, 1e-12)) for v in (value, lo, hi))
    x = min(max((value - lo) / (hi - lo), 0.0), 1.0)
    return 1.0 - x if spec.better == "high" else x


def ends(spec: ColumnSpec) -> tuple[float, float]:
    """The ends of a column's scale."""
    lo = spec.lo if spec.lo is not None else 0.0
    return lo, spec.hi if spec.hi is not None else lo + OPEN_END


def step(x: float | None, sign: str = "q") -> str:
    """The class of a share 0..1; "" for None."""
    return "" if x is None else f"{sign}{min(int(x * STEPS), STEPS - 1)}"


def signed(value: float, top: float) -> str:
    """The class of a value between -top and top."""
    if not math.isfinite(value) or top <= 0:
        return ""
    return step(min(abs(value) / top, 1.0), "n" if value < 0 else "q")


def legend(spec: ColumnSpec) -> str:
    """A column's scale with its ends and unit."""
    lo, hi = ends(spec)
    first, last = (hi, lo) if spec.better == "high" else (lo, hi)
    more = "+" if spec.hi is None else ""
    steps = "".join(f'<i class="q{i}"></i>' for i in range(STEPS))
    return f"{safe(spec.title)} {first:g} {steps} {last:g}{more} {safe(spec.unit)}"


def signed_legend(top: float, unit: str) -> str:
    """A signed scale with its ends and unit."""
    down = "".join(f'<i class="n{i}"></i>' for i in reversed(range(STEPS)))
    up = "".join(f'<i class="q{i}"></i>' for i in range(STEPS))
    return f"&minus;{top:.3g} {down}{up} +{top:.3g} {safe(unit)}"
