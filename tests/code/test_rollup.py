"""Roll-ups against a reference that goes byte by byte, and the rules about what may enter."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.code.structure_texts import EXAMPLES, column, cut
from tokenscope.code.align import align
from tokenscope.code.groups import innermost
from tokenscope.code.parse import parse
from tokenscope.code.rollup import rollup
from tokenscope.errors import InputError, UnknownName
from tokenscope.trace.regions import CATEGORIES, LEVEL_BITS, LEVELS
from tokenscope.trace.tokens import Tokens

SOURCE = (
    b'def add(a, b):\n    """Sum."""\n    if a:\n        return a + b\n    return b\n\nadd(1, 2)\n'
)


def by_bytes(tokens, regions, cells, by):
    """The bytes of every group, in the groups' order: the slow way, one byte at a time."""
    size = len(tokens.data)
    category = np.repeat(cells.category, cells.weight)
    region = np.repeat(cells.region, cells.weight)
    if by in LEVEL_BITS:
        return [list(range(regions.start[i], regions.end[i])) for i in regions.of(by).tolist()]
    keys: list[object]
    if by == "line":
        keys = [tokens.data[:b].count(b"\n") for b in range(size)]
        return [[b for b in range(size) if keys[b] == k] for k in sorted(set(keys))]
    if by == "category":
        keys = category.tolist()
        return [[b for b in range(size) if keys[b] == k] for k in sorted(set(keys))]
    layout = {CATEGORIES.index("whitespace"): 1, CATEGORIES.index("indentation"): 2}
    keys = [
        (layout[c], 0) if c in layout else (0, int(regions.kind[r]))
        for c, r in zip(category.tolist(), region.tolist(), strict=True)
    ]
    return [[b for b in range(size) if keys[b] == k] for k in sorted(set(keys))]


def reference(tokens, values, wanted, bytes_, top, quantiles):
    """The aggregates of one group from their definitions."""
    owner = [tokens.at_byte(b) for b in bytes_]
    share: dict[int, int] = {}
    for t in owner:
        if wanted[t] and math.isfinite(values[t]):
            share[t] = share.get(t, 0) + 1
    if not share:
        return {"count": 0}
    total = sum(share.values())
    mean = sum(n * float(values[t]) for t, n in share.items()) / total
    ordered = sorted(float(values[t]) for t in share)
    lengths = np.diff(tokens.offsets)
    return {
        "count": len(share),
        "mean": mean,
        "std": math.sqrt(sum(n * (float(values[t]) - mean) ** 2 for t, n in share.items()) / total),
        "min": ordered[0],
        "max": ordered[-1],
        "sum": sum(float(values[t]) * n / lengths[t] for t, n in share.items()),
        "top": sum(ordered[-top:]) / len(ordered[-top:]),
        "quantiles": np.quantile(ordered, quantiles),
    }


@settings(
    max_examples=max(150, EXAMPLES // 50), deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(cut(), st.integers(0, 2**32 - 1), st.sampled_from(LEVELS))
def test_every_aggregate_equals_the_reference(case, seed, by):
    language, tokens = case
    rng = random.Random(seed)
    values = column(rng, len(tokens))
    n_prompt, top = rng.randrange(0, len(tokens) + 1), rng.randrange(1, 5)
    part = rng.choice(["generated", "prompt", "all"])
    regions = parse(tokens.data, language)
    cells = align(tokens, regions)
    quantiles = (0.0, 0.1, 0.5, 1.0)
    ours = rollup(cells, values, by, n_prompt=n_prompt, part=part, top=top, quantiles=quantiles)
    index = np.arange(len(tokens))
    wanted = {"generated": index >= n_prompt, "prompt": index < n_prompt, "all": index >= 0}[part]
    expected = by_bytes(tokens, regions, cells, by)
    assert len(ours) == len(expected)
    for g, bytes_ in enumerate(expected):
        want = reference(tokens, values, wanted, bytes_, top, quantiles)
        assert ours.count[g] == want["count"]
        assert ours.bytes[g] == len(bytes_)
        touched = {tokens.at_byte(b) for b in bytes_}
        assert ours.generated[g] == sum(t >= n_prompt for t in touched)
        assert ours.prompt[g] == sum(t < n_prompt for t in touched)
        assert ours.undefined[g] == sum(
            bool(wanted[t]) and not math.isfinite(values[t]) for t in touched
        )
        if not want["count"]:
            assert np.isnan([ours.mean[g], ours.std[g], ours.min[g], ours.max[g], ours.sum[g],
                             ours.top[g]]).all()  # fmt: skip
            continue
        for name in ("mean", "std", "min", "max", "sum", "top"):
            assert getattr(ours, name)[g] == pytest.approx(want[name], abs=1e-6, rel=1e-6), name
        assert ours.quantiles[g] == pytest.approx(want["quantiles"], abs=1e-6, rel=1e-6)


@pytest.fixture
def aligned():
    pieces = [SOURCE[i : i + 5] for i in range(0, len(SOURCE), 5)]
    tokens = Tokens.of(range(len(pieces)), pieces)
    return tokens, align(tokens, parse(tokens.data, "python"))


def test_sums_over_a_partition_add_up_to_the_whole(aligned):
    tokens, cells = aligned
    values = np.linspace(0.5, 3.5, len(tokens)).astype(np.float32)
    for by in ("kind", "category", "line", "file"):
        assert rollup(cells, values, by).sum.sum() == pytest.approx(float(values.sum()), rel=1e-6)


def test_prompt_tokens_never_dilute_generated_ones(aligned):
    tokens, cells = aligned
    values = np.where(np.arange(len(tokens)) < 10, 100.0, 1.0)
    whole = rollup(cells, values, "file", n_prompt=10)
    assert whole.mean[0] == 1.0
    assert (int(whole.prompt[0]), int(whole.generated[0])) == (10, len(tokens) - 10)
    assert rollup(cells, values, "file", n_prompt=10, part="prompt").mean[0] == 100.0


def test_nested_regions_hold_what_is_nested_in_them(aligned):
    tokens, cells = aligned
    frame = rollup(cells, np.ones(len(tokens)), "statement").frame()
    definition = frame[frame.kind == "function_definition"].iloc[0]
    assert definition["name"] == "add"
    branch = frame[frame.kind == "if_statement"].iloc[0]
    assert definition["count"] > branch["count"] > 0
    assert (definition["start"], branch["start"]) == (0, SOURCE.index(b"if a"))


def test_by_kind_puts_regions_of_one_kind_together(aligned):
    tokens, cells = aligned
    frame = rollup(cells, np.ones(len(tokens)), "statement", group="kind").frame()
    returns = frame[frame.kind == "return_statement"].iloc[0]
    assert returns["bytes"] == len(b"return a + b") + len(b"return b")
    inner = innermost(cells, "statement")
    assert (frame.bytes.sum()) == cells.weight[inner >= 0].sum()


def test_infinite_values_do_not_enter(aligned):
    tokens, cells = aligned
    values = np.ones(len(tokens))
    values[3], values[4] = np.inf, np.nan
    whole = rollup(cells, values, "file")
    assert (float(whole.max[0]), int(whole.undefined[0])) == (1.0, 2)


@pytest.mark.parametrize(
    "options",
    [{"part": "both"}, {"top": 0}, {"quantiles": (1.5,)}, {"group": "name"}],
)
def test_bad_options_name_themselves(aligned, options):
    tokens, cells = aligned
    with pytest.raises(InputError) as error:
        rollup(cells, np.ones(len(tokens)), "line", **options)
    assert error.value.field in options


def test_an_unknown_level_lists_the_known_ones(aligned):
    tokens, cells = aligned
    with pytest.raises(UnknownName, match="statement"):
        rollup(cells, np.ones(len(tokens)), "sentence")
    with pytest.raises(InputError, match="shape"):
        rollup(cells, np.ones(3), "line")
