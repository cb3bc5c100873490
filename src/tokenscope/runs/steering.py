"""Steering vectors from two sets of prompts: the difference of means at a layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.hf.changes import part_of, stood
from tokenscope.backends.protocol import internals
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.decode.vectors import SteeringVector
from tokenscope.errors import AbilityError, InputError
from tokenscope.trace.columns import F32

Over = Literal["last", "mean"]


def steering_vector(
    engine: Engine, positive: Sequence[str], negative: Sequence[str], layer: int,
    over: Over = "last", keep: bool = True, name: str = "", control: Control = QUIET,
) -> SteeringVector:  # fmt: skip
    """Mean residual stream before ``layer`` over ``positive`` less that over ``negative``.

    ``over``: at each prompt's ``last`` token, or the ``mean`` over all its tokens but the first
    (Turner 2023, arXiv 2308.10248; Rimsky 2024, arXiv 2312.06681). ``keep``: written to the data
    folder, where an edit finds it by its digest. ``name``: for those who look for it later. Raises
    InputError, AbilityError, CapacityError, Cancelled.
    """
    if not engine.abilities.changes:
        raise AbilityError("this model's inside cannot be changed while it decodes")
    if over not in ("last", "mean"):
        raise InputError("over", "must be last or mean")
    part = part_of(engine.backend.anatomy, layer)  # type: ignore[attr-defined]
    means: list[NDArray[np.float64]] = []
    norms: list[float] = []
    for field, prompts in (("positive", positive), ("negative", negative)):
        if isinstance(prompts, str) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise InputError(field, "must hold prompts, at least one")
        rows: list[F32] = []
        for prompt in prompts:
            control.step(len(norms), len(positive) + len(negative), "prompts")
            ids = [int(i) for i in engine.vocabulary.encode(prompt).ids]
            if len(ids) < 2:
                raise InputError(field, "each prompt needs at least two tokens")
            with engine.turn:
                found = stood(internals(engine.backend).model, part, "residual", ids)
            held = found[-1:] if over == "last" else found[1:]
            norms.append(float(held.float().norm(dim=-1).mean()))
            rows.append(held.double().mean(0).float().cpu().numpy())
        means.append(np.mean(np.stack(rows).astype(np.float64), axis=0))
    asked = json.dumps([list(positive), list(negative)]).encode()
    made = SteeringVector(
        layer, (means[0] - means[1]).astype(np.float32), float(np.mean(norms)),
        engine.info.model_digest,
        {
            "model": engine.info.name, "over": over, "positive": len(positive),
            "negative": len(negative), "prompts_sha256": hashlib.sha256(asked).hexdigest(),
            "dtype": engine.info.dtype, **({"name": name} if name else {}),
        },
    )  # fmt: skip
    engine.vectors[made.digest] = made
    if keep:
        made.save(engine.vectors.path(made.digest))
    return made
