"""A trace as a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from tokenscope.trace.record import Trace


def frame(trace: Trace) -> pd.DataFrame:
    """One row per token: ``index, id, text, start, end, generated, special`` and all columns.

    ``text`` is the token's own bytes, for reading; pieces of a split character show as U+FFFD.
    """
    import pandas as pd

    n = len(trace)
    data: dict[str, object] = {
        "index": np.arange(n),
        "id": trace.ids,
        "text": [t.text for t in trace.tokens],
        "start": trace.tokens.offsets[:-1],
        "end": trace.tokens.offsets[1:],
        "generated": np.arange(n) >= trace.n_prompt,
        "special": trace.tokens.special,
    }
    for name, column in trace.columns.items():
        data[name] = column.values
    return pd.DataFrame(data)
