"""A run watched to its end: in colours as it goes, as plain text, or as one document."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tokenscope.cli.output import document, say
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.cli.paint import Painter
    from tokenscope.runs.run import Run
    from tokenscope.runs.windows import Windows
    from tokenscope.trace import Trace
    from tokenscope.trace.tokens import Tokens


def show(
    run: Run | Windows, column: str, save: Path | None, as_json: bool,
    around: tuple[str, str] = ("", ""),
) -> int:  # fmt: skip
    """Run it and show it; see :func:`watch`. Returns the exit code: 130 when interrupted."""
    trace = watch(run, column, as_json, around)
    if save is not None:
        keep(trace, save)
    if as_json:
        document(json.loads(trace.to_json()))
    else:
        say(summary(trace))
    return 130 if trace.finish == "cancelled" else 0


def watch(
    run: Run | Windows, column: str, quiet: bool = False, around: tuple[str, str] = ("", "")
) -> Trace:
    """Iterate a run; a signal ends it within a step, and what was decoded is still there.

    In a terminal stdout gets the tokens in colours, stderr the legend. Elsewhere stdout gets the
    text that was made and nothing else (but what is to stand ``around`` it), and what takes longer
    than a second tells on stderr how far it is. ``quiet``: nothing on stdout.
    """
    from rich.console import Console

    from tokenscope.cli.pace import Pace
    from tokenscope.cli.paint import Painter

    painter = None if quiet else Painter(Console(highlight=False, markup=False), column)
    pace = Pace() if painter is None or not painter.coloured else None
    if pace is not None:
        run.control.progress = pace.told

    def interrupt(number: int, frame: FrameType | None) -> None:
        run.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    if run.cost:
        say(run.cost)
    try:
        paint(run, painter, around)
        if painter is not None and painter.coloured:
            Console(stderr=True, highlight=False).print(painter.legend())
    finally:
        if pace is not None:
            pace.close()
        signal.signal(signal.SIGINT, before)
    return run.trace


def paint(run: Run | Windows, painter: Painter | None, around: tuple[str, str] = ("", "")) -> None:
    """Print what is shared, then every step; tell the run's control how far it is."""
    scoring = run.trace.origin.form == "score"
    begin = 0 if scoring else run.n_prompt

    def put(tokens: Tokens, values: list[float], first: int) -> None:
        # what a branch was given is part of what it says: only the prompt is no text of its own
        assert painter is not None
        cut = min(max(begin - first, 0), len(tokens))
        painter.tokens(tokens.slice(0, cut), values[:cut], True)
        painter.tokens(tokens.slice(cut, len(tokens)), values[cut:], False)

    if painter is not None:
        painter.around(around[0])
    if painter is not None and run.shared is not None:
        put(run.shared.tokens, run.shared.columns[painter.column].values.tolist(), 0)
    for step in run:
        if scoring or step.prompt:
            given = run.total if scoring else run.n_prompt
            run.control.progress(step.end, given, "tokens" if scoring else "tokens of the prompt")
        else:
            run.control.progress(step.end - run.n_prompt, run.total - run.n_prompt, "tokens")
        if painter is not None and len(step.tokens):
            if painter.column not in step.columns:
                run.trace.column_of(painter.column)  # raises, and names the columns there are
            values = step.columns[painter.column].tolist()
            put(step.tokens, values, step.end - len(step.tokens))
    if painter is not None:
        painter.finish(around[1])


def keep(trace: Trace, path: Path) -> None:
    """Save a trace. Raises InputError when the file cannot be written."""
    try:
        trace.save(path)
    except OSError as error:
        raise InputError("--save", f"cannot be written: {error.strerror}") from error


def summary(trace: Trace) -> str:
    """One line of figures."""
    figures = trace.summary()
    parts = [f"{figures['generated_tokens']:.0f} tokens after {trace.n_prompt}"]
    for name, label, unit in (
        ("perplexity", "perplexity", ""), ("mean_entropy", "mean entropy", " nats"),
        ("bits_per_byte", "bits per byte", ""), ("tokens_per_s", "tokens/s", ""),
    ):  # fmt: skip
        if math.isfinite(figures[name]):
            parts.append(f"{label} {figures[name]:.3g}{unit}")
    return f"{', '.join(parts)}; ended by: {trace.finish}"
