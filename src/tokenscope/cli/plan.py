"""``tokenscope plan``: does it fit, as what, and how fast would it be from the disk."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, MemoryOption, in_bytes
from tokenscope.cli.output import document, visible


def plan(
    model: Annotated[
        str | None, typer.Argument(help="A folder, a GGUF file or a name. Default: bundled.")
    ] = None,
    *,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens that are read and written. Default: 2048.")
    ] = None,
    max_memory: MemoryOption = None,
    as_json: JsonOption = False,
) -> int:
    """What a model would take in each form, before it is loaded, and which form would be taken.
    Exit 1 when nothing fits."""
    ceiling = in_bytes(max_memory)
    from tokenscope.library.plan import plan as planned

    found = planned(model, context, ceiling)
    if as_json:
        choices = [{**asdict(c), "total": c.need.total} for c in found.choices]
        document({**asdict(found), "choices": choices})
        return 0 if found.chosen else 1
    print(visible(f"{found.name}, {found.context} tokens; {found.free / 1e9:.1f} GB free"))
    for c in found.choices:
        mark = "->" if c.way == found.chosen else "  "
        fits = "fits" if c.fits else "too much"
        parts = f"weights {_gb(c.need.weights)}, packed copy {_gb(c.need.packed)}, memory of "
        parts += f"tokens {_gb(c.need.cache)}, passes {_gb(c.need.work)}, base {_gb(c.need.base)}"
        print(visible(f"{mark} {c.way:9} {_gb(c.need.total):>8} GB  {fits:9} {c.why}"))
        print(visible(f"   {'':9} {'':>8}     {parts}"))
    if found.seconds is not None:
        print(visible(f"   from the disk a token takes at least {found.seconds:.1f} s here"))
    print(visible(f"{found.chosen or 'refused'}: {found.why}"))
    return 0 if found.chosen else 1


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"
