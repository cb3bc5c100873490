"""Explanations of a model in 16 bits: every table is made, and its sums are the model's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.runs.explain import Explaining

CODE = "import subprocess\nsubprocess.run(command, shell="
# of float32's own values: 8 bits of mantissa, and 11
NEAR = {"bfloat16": 0.25, "float16": 0.03}


@pytest.fixture(scope="module", params=list(NEAR))
def model(request: pytest.FixtureRequest) -> Iterator[ts.Model]:
    loaded = ts.load(dtype=request.param)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("contrast", [None, "False"])
def test_every_table_is_made(model: ts.Model, bundled: ts.Model, contrast: str | None) -> None:
    trace = model.score(CODE + "True")
    at, tables = len(trace) - 1, ("regions", "lens", "components", "edges")
    job = Explaining(model, trace, at, contrast, also=tables)
    made = job.attribution()
    assert np.isfinite(made.values).all() and made.sentence
    tables_made = {name: job.table(made, name) for name in tables}
    assert [t.note for t in tables_made.values() if t.refused] == []
    # the parts add up to this model's own logits, and those are float32's but for rounding
    seen = job.asked.internals.capture(job.asked.ids).logits.double()
    less = seen[made.target.b] if made.target.b is not None else seen.mean()
    total = float(seen[made.target.a] - less)
    parts = sum(float(r["value"]) for r in tables_made["components"].rows)
    assert parts == pytest.approx(total, abs=NEAR[model.info.dtype])
    full = bundled.explain(bundled.score(CODE + "True"), at, contrast=contrast)
    assert made.value == pytest.approx(full.value, abs=NEAR[model.info.dtype])
    apart = np.abs(made.values - full.values).max()
    assert apart <= 2 * NEAR[model.info.dtype]
