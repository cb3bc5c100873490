"""Drift: how far this build of a model is from the one that was approved, token by token.

The same ids go through both (teacher forcing), and the whole distributions before every token are
held beside each other: KL of the baseline against this build, in nats, and whether the likeliest
token is another one (a *flip*). Both are read by the same passes, so a model against itself gives
zeros, not small numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tokenscope.code.views import structure
from tokenscope.decode.engine import Engine
from tokenscope.errors import CapacityError, InputError
from tokenscope.explore.divergence import exact
from tokenscope.runs.compare_exact import distributions
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import CATEGORIES


def alike(engine: Engine, baseline: Engine) -> None:
    """Raises InputError where the two read text differently: then no token of one is one of the
    other, and ``compare`` is the tool."""
    if engine.info.tokenizer_digest != baseline.info.tokenizer_digest:
        raise InputError("baseline", "has another tokenizer; compare traces with `compare`")


def drift_of(
    engine: Engine, baseline: Engine, trace: Trace, language: str, first: int = 1
) -> dict[str, Any]:
    """``kl`` (nats), ``flips`` (0 or 1) and ``categories`` of the tokens from ``first`` on.

    Raises CapacityError where the text does not fit both contexts, AbilityError where a backend
    tells no whole distributions.
    """
    for one in (engine, baseline):
        if one.info.context is not None and len(trace) > one.info.context:
            raise CapacityError("drift is not measured over windows", fits=one.info.context)
    tokens = range(max(1, first), len(trace))
    ids = replace(trace, origin=Origin())  # nobody's own: both read it
    rows = zip(
        distributions(ids, baseline, tokens), distributions(ids, engine, tokens), strict=True
    )
    kl, flips = [], []
    for p, q in rows:
        apart = exact(p, q).kl
        assert apart is not None
        kl.append(round(apart, 9) if np.isfinite(apart) else 1e9)
        flips.append(int(p.argmax() != q.argmax()))
    held = structure(trace, language)
    codes = {int(t): int(c) for t, c in zip(held.token[::-1], held.category[::-1], strict=True)}
    names = [CATEGORIES[codes[t]] if t in codes else "other" for t in tokens]
    return {"first": tokens.start, "kl": kl, "flips": flips, "categories": names}
