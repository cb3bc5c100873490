"""An explanation is shown only when it explains the run that was recorded.

The logprob of the trace's own token is computed again through the path that explains; where it
differs from the recorded one, the explanation is of another model, another text or other edits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from tokenscope.errors import AbilityError
from tokenscope.explain.target import Asked
from tokenscope.trace.record import Trace

# nats; float32 moves a logprob by 1e-5 between a prefill and cached steps, bfloat16 by 0.13
TOLERANCE = {"float32": 1e-3, "float64": 1e-3, "float16": 0.05, "bfloat16": 0.3, "int8": 0.3}


def tolerance(dtypes: tuple[str, ...], errors: Mapping[str, float]) -> float:
    """Nats by which f(x) and the record may differ: the widest of the dtypes involved.

    For 16 bits at least four times the logprob's error bar that was measured at load.
    """
    widest = max(TOLERANCE.get(d, TOLERANCE["float32"]) for d in dtypes)
    return widest if widest <= TOLERANCE["float32"] else max(widest, 4 * errors.get("logprob", 0.0))


def check(asked: Asked, trace: Trace, dtype: str, errors: Mapping[str, float]) -> None:
    """Raises AbilityError, which names both numbers, where f(x) is not the recorded logprob.

    A position that the trace does not hold, or without a logprob, has nothing to compare with.
    """
    at = asked.target.at
    if at >= len(trace) or "logprob" not in trace.columns:
        return
    recorded = float(trace.column("logprob")[at])
    if not np.isfinite(recorded):
        return
    token = int(trace.ids[at])
    found = float(torch.log_softmax(asked.logits(), dim=-1)[token])
    allowed = tolerance((dtype, trace.origin.dtype or dtype), errors)
    if not abs(found - recorded) <= allowed:
        raise AbilityError(
            f"token {at} cannot be explained: run again, its logprob is {found:.4f}, recorded was "
            f"{recorded:.4f} (a difference of at most {allowed:.2g} nats is rounding)"
        )
