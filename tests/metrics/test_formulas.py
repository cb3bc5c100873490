"""Every metric of a position against its formula in float64 numpy, on rows that are awkward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenscope.backends.protocol import Full
from tokenscope.metrics import measure, step
from tokenscope.metrics.series import RunningPerplexity
from tokenscope.metrics.step import METRICS

SIZE = 50
RANDOM = np.random.default_rng(11)


def _rows() -> dict[str, np.ndarray]:
    spread = RANDOM.normal(0, 3, SIZE)
    tied, masked, almost = np.round(spread), spread.copy(), np.zeros(SIZE)
    masked[::2] = -np.inf
    almost[7] = 30.0
    only = np.full(SIZE, -np.inf)
    only[7] = 0.0
    return {
        "random": spread, "uniform": np.full(SIZE, 2.5), "tied": tied, "masked": masked,
        "one-hot": only, "almost one-hot": almost, "huge": spread * 3000.0,
        "far from zero": spread + 20_000.0, "tiny differences": 1e-4 * spread,
        "two alike": np.where(np.arange(SIZE) < 2, 5.0, -5.0),
    }  # fmt: skip


ROWS = _rows()


def formulas(z: np.ndarray, x: int) -> dict[str, float]:
    """The definitions, in the order of the docs. float64; 0 ln 0 = 0."""
    z = z.astype(np.float32).astype(np.float64)
    top = z.max()
    logp = z - top - math.log(np.exp(z - top).sum())
    p = np.exp(logp)
    present = p > 0
    entropy = -(p[present] * logp[present]).sum()
    first, second = np.sort(p)[::-1][:2]
    ahead = int((z > z[x]).sum()) + int((z[:x] == z[x]).sum())
    return {
        "logprob": logp[x], "surprisal": -logp[x], "probability": p[x], "rank": 1.0 + ahead,
        "entropy": entropy,
        "varentropy": (p[present] * (logp[present] + entropy) ** 2).sum(),
        "margin": first - second, "p_ratio": p[x] / first,
    }  # fmt: skip


@pytest.mark.parametrize("name", list(ROWS))
def test_every_metric_equals_its_formula(name: str) -> None:
    z = ROWS[name].astype(np.float32)
    targets = np.arange(SIZE)
    found = measure(Full(np.tile(z, (SIZE, 1))), targets, 5)
    assert set(found.columns) == set(METRICS.names()), "a new metric needs its formula here"
    for x in targets.tolist():
        for metric, wanted in formulas(z, x).items():
            have = float(found.columns[metric][x])
            # float32 logits of size s carry s * 6e-8: that is all the error there may be
            near = 4e-6 + 3e-7 * float(np.abs(z[np.isfinite(z)]).max())
            assert have == pytest.approx(wanted, rel=near, abs=near), (metric, x)


@pytest.mark.parametrize("name", list(ROWS))
def test_the_alternatives_are_the_largest_in_order(name: str) -> None:
    z = ROWS[name].astype(np.float32)
    order = np.argsort(-z, kind="stable")
    found = measure(Full(z[None]), [0], 8)
    possible = int(np.isfinite(z).sum())
    assert found.ids[0][:possible].tolist() == order[: min(8, possible)].tolist()
    wanted = [formulas(z, int(i))["logprob"] for i in order[:8]]
    assert found.logprobs[0] == pytest.approx(wanted, rel=1e-5, abs=4e-6)


@pytest.mark.parametrize("k", [1, 10])
def test_long_rows_have_the_same_order(k: int) -> None:
    """Large vocabularies are searched by groups: ties between groups, and a best at either end."""
    z = RANDOM.normal(0, 3, (6, 20_011)).round().astype(np.float32)
    z[0, [0, -1]] = 99.0
    z[1, -1] = 98.0
    order = np.argsort(-z, axis=1, kind="stable")
    for place in (0, k - 1, k, 500):
        found = measure(Full(torch.from_numpy(z)), order[:, place].copy(), k)
        assert (found.ids == order[:, :k]).all()
        assert (found.columns["rank"] == place + 1).all()


def test_many_positions_are_measured_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    z = RANDOM.normal(0, 4, (37, SIZE)).astype(np.float32)
    came = RANDOM.integers(0, SIZE, 37)
    monkeypatch.setattr(step, "BLOCK_VALUES", 5 * SIZE)  # blocks of five
    monkeypatch.setattr(step, "LEAST_ROWS", 1)
    together = measure(Full(torch.from_numpy(z)), came, 4)
    for t in range(37):
        alone = measure(Full(torch.from_numpy(z[t : t + 1])), came[t : t + 1], 4)
        assert together.ids[t].tolist() == alone.ids[0].tolist()
        for name, values in together.columns.items():
            assert values[t] == alone.columns[name][0], name


def test_running_perplexity_is_that_of_all_so_far_in_one_piece_or_many() -> None:
    s = RANDOM.exponential(2.0, 40).astype(np.float32)
    s[[0, 9]] = np.nan  # counts for nothing
    known = ~np.isnan(s)
    total, count = np.cumsum(np.where(known, s, 0.0).astype(np.float64)), np.cumsum(known)
    wanted = np.exp(np.divide(total, count, where=count > 0, out=np.full(40, np.nan)))
    whole = RunningPerplexity().add(s)
    assert whole == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    running = RunningPerplexity()
    pieces = np.concatenate([running.add(s[a:b]) for a, b in [(0, 1), (1, 1), (1, 17), (17, 40)]])
    assert pieces == pytest.approx(wanted, rel=1e-6, nan_ok=True)
