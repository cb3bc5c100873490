"""The experts of a trace: which of them each step asked, how sure the routers were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.hf.experts import Routing, routing
from tokenscope.backends.protocol import internals
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, InputError
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Experts:
    """``routing`` holds T - 1 positions: number ``t - 1`` is the step that chose token ``t``."""

    trace: Trace
    routing: Routing

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have experts."""
        return self.routing.layers

    def entropy(self) -> NDArray[np.float32]:
        """float32 (L, T), nats: - sum p ln p over the experts of a layer; NaN for token 0."""
        p = self.routing.probabilities.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = -np.where(p > 0, p * np.log(p), 0.0).sum(-1)
        return _from_one(found)

    def with_columns(self) -> Trace:
        """The trace with ``router_entropy`` (nats) and ``router_mass`` (probability of the experts
        that were asked), means over the layers."""
        r = self.routing
        mass = np.take_along_axis(r.probabilities, r.chosen.astype(np.int64), -1).sum(-1)
        made = self.trace.with_column("router_entropy", self.entropy().mean(0))
        return made.with_column("router_mass", _from_one(mass).mean(0))

    def at(self, t: int) -> list[dict[str, Any]]:
        """A row per layer of the step that chose token ``t``: ``layer``, ``entropy``, and of the
        experts, asked ones first: ``expert``, ``probability``, ``chosen``, ``weight``."""
        if not 1 <= t < len(self.trace):
            raise InputError("t", f"must lie in 1..{len(self.trace) - 1}")
        r, rows = self.routing, []
        for n, layer in enumerate(r.layers):
            p = r.probabilities[n, t - 1]
            pairs = zip(r.chosen[n, t - 1], r.weights[n, t - 1], strict=True)
            asked = {int(e): float(w) for e, w in pairs}
            falling = [int(e) for e in np.argsort(-p, kind="stable")]
            order = [*(e for e in falling if e in asked), *(e for e in falling if e not in asked)]
            rows.append({
                "layer": layer, "entropy": float(self.entropy()[n, t]),
                "experts": [
                    {"expert": e, "probability": float(p[e]), "chosen": e in asked,
                     "weight": asked.get(e)}
                    for e in order
                ],
            })  # fmt: skip
        return rows

    def load(self) -> pd.DataFrame:
        """How often each expert of each layer was asked: layer, expert, share of the positions."""
        import pandas as pd

        r, rows = self.routing, []
        for n, layer in enumerate(r.layers):
            counts = np.bincount(r.chosen[n].ravel(), minlength=r.probabilities.shape[-1])
            rows += [
                {"layer": layer, "expert": e, "share": c / max(len(r.chosen[n]), 1)}
                for e, c in enumerate(counts.tolist())
            ]
        return pd.DataFrame(rows)


def experts(engine: Engine, trace: Trace) -> Experts:
    """Read the trace again by its model and keep what the routers say.

    Raises AbilityError for a model without experts (or without internals), InputError for a trace
    of another model or of a single token.
    """
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        raise InputError("trace", "was made by another model")
    if len(trace) < 2:
        raise InputError("trace", "holds no step")
    context = engine.info.context
    if context is not None and len(trace) > context:
        raise AbilityError("experts are not read over windows: the text exceeds the context")
    model = internals(engine.backend).model
    with engine.turn:
        return Experts(trace, routing(model, [int(i) for i in trace.ids[:-1]]))


def _from_one(values: NDArray[Any]) -> NDArray[np.float32]:
    """(L, T - 1) of positions to float32 (L, T) of tokens."""
    return np.pad(values, ((0, 0), (1, 0)), constant_values=np.nan).astype(np.float32)
