"""Sampled shares against what a small model truly writes; intervals that cover it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.explore.small import END, engine, every_text, letters
from tokenscope.errors import InputError
from tokenscope.explore.intervals import bootstrap_entropy, entropy, entropy_bounds, wilson
from tokenscope.runs.explore import explore
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.model import Model

CASES, DRAWS = 100, 20


def test_intervals_cover_the_truth_in_93_of_100_cases() -> None:
    """Case n: the prompt is the number n, 20 draws of 1 token over "abc" or the end, seeds
    1000 n + 1 ...; asked is the first letter's likeliest value. Truth: complete enumeration."""
    covered = 0
    made = engine(heat=0.3)
    for case in range(CASES):
        prompt = f"{case}"
        truth: dict[str, float] = {}
        given = [int(i) for i in made.vocabulary.encode(prompt).ids]
        for text, p in every_text(letters(heat=0.3), given, 1):
            key = "" if text[0] == END else chr(text[0])
            truth[key] = truth.get(key, 0.0) + p
        found = explore(made, prompt, way="sampled", draws=DRAWS, horizon=1,
                        outcome=lambda e: e.text[:1], sampler={"seed": 1000 * case})  # fmt: skip
        wanted = max(truth, key=lambda k: truth[k])
        outcome = next((o for o in found.outcomes if o.key == wanted), None)
        low, high = (outcome.low, outcome.high) if outcome else wilson(0, DRAWS)
        covered += low <= truth[wanted] <= high
        assert sum(o.draws for o in found.outcomes) == DRAWS
        assert sum(o.mass for o in found.outcomes) == pytest.approx(1.0)
    assert covered >= 93, covered


def test_drawn_texts_hold_their_own_probability() -> None:
    found = explore(engine(), "ab", way="sampled", draws=50, horizon=3, outcome="bytes",
                    sampler={"temperature": 0.7})  # fmt: skip
    given = [int(i) for i in found.base.ids]
    cold = lambda seen: letters()(seen) / np.float32(0.7)
    truth = dict(every_text(cold, given, 3))
    for b in found.branches:
        assert b.text_mass == pytest.approx(truth[tuple(found.ids(b.name))], abs=1e-6)
    left = 1 - sum(truth[tuple(found.ids(b.name))] for b in found.branches)
    assert found.unexplored.total == pytest.approx(left, abs=1e-6)
    assert found.masses_of == "sampler"
    assert found.split is None
    assert found.to_json()["sampler"]["temperature"] == 0.7


def test_a_draw_is_what_the_sampler_of_the_trace_writes() -> None:
    made = engine()
    settings = Settings(max_new_tokens=5, temperature=0.9, seed=7, alternatives=4)
    trace = generate(made, prompt="ab", settings=settings).result()
    found = explore(made, trace, way="sampled", draws=4, horizon=5, outcome="bytes", width=2)
    assert found.sampler is not None and found.sampler.temperature == 0.9
    drawn = sorted(tuple(found.ids(b.name)) for b in found.branches for _ in range(b.draws))
    alone = []
    for seed in range(8, 12):
        one = Settings(max_new_tokens=5, temperature=0.9, seed=seed, alternatives=4)
        alone.append(tuple(generate(made, prompt="ab", settings=one).result().ids[found.at :]))
    assert drawn == sorted(tuple(int(i) for i in a) for a in alone)
    more = explore(made, trace, way="sampled", draws=9, horizon=5, outcome="bytes", width=2,
                   resume=found)  # fmt: skip
    assert sum(b.draws for b in more.branches) == 9
    whole = explore(made, trace, way="sampled", draws=9, horizon=5, outcome="bytes", width=2)
    assert {tuple(more.ids(b.name)): b.draws for b in more.branches} == {
        tuple(whole.ids(b.name)): b.draws for b in whole.branches
    }


def test_ways_on_the_bundled_model(bundled: Model) -> None:
    found = bundled.explore("for i in range(", way="sampled", draws=40, horizon=6, stop=["\n"])
    for b in found.branches:
        assert found.trace(b.name).text.endswith(found.text(b.name))
    greedy = bundled.explore("for i in range(", way="greedy", width=3, horizon=5, depth=2)
    assert {b.parent for b in greedy.branches} == {None, 0}
    assert sum(b.mass for b in greedy.branches) + greedy.unexplored.total == pytest.approx(1.0)
    with pytest.raises(InputError, match="sampler"):
        bundled.explore("x", way="sampled", sampler={"heat": 1.0})


def test_wilson_against_its_definition() -> None:
    """The ends are the shares p with |k/n - p| = z sqrt(p (1 - p) / n)."""
    for k, n in ((0, 10), (3, 10), (10, 10), (50, 81), (1, 1000)):
        low, high = wilson(k, n)
        for p in (low, high):
            if 0 < p < 1:
                z = abs(k / n - p) / math.sqrt(p * (1 - p) / n)
                assert z == pytest.approx(1.959964, abs=1e-5)
        assert 0 <= low <= k / n <= high <= 1


def test_entropy_bounds_against_a_search() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        known = random.dirichlet(np.ones(4)) * random.uniform(0.2, 1)
        free = 1 - known.sum()
        low, high = entropy_bounds(list(known), free)
        tried = [entropy(known + free * w) for w in random.dirichlet(np.full(4, 0.3), 3000)]
        assert low - 1e-9 <= min(tried)
        assert max(tried) <= high + 1e-9
        assert max(tried) > high - 0.02
    assert bootstrap_entropy([50, 50])[0] < math.log(2) < bootstrap_entropy([50, 50])[1] + 0.01
