"""Masses against the complete enumeration of what a small model can write."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.explore.small import END, Text, engine, every_text, letters, starts
from tokenscope.decode.engine import Engine
from tokenscope.errors import CapacityError, InputError
from tokenscope.explore.frontier import Branch
from tokenscope.runs.explore import explore
from tokenscope.runs.explored import Explored
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.model import Model

PROMPT = "ab"


def truth_of(found: Explored) -> dict[Text, float]:
    prompt = [int(i) for i in found.base.ids]
    return dict(every_text(letters(), prompt, found.ask.horizon))


def ids_of(found: Explored, branch: Branch) -> Text:
    return tuple(found.ids(branch.name))


def check(found: Explored) -> None:
    """Disjoint events with their true probabilities; what is left over is what is unexplored."""
    truth = truth_of(found)
    assert math.isclose(math.fsum(truth.values()), 1.0, abs_tol=1e-9)
    covered = 0.0
    prefixes = []
    for b in found.branches:
        decided = ids_of(found, b)[: b.decided - found.at]
        assert b.mass == pytest.approx(starts(truth, decided), abs=1e-6)
        whole = ids_of(found, b)
        assert b.text_mass == pytest.approx(starts(truth, whole), abs=1e-6)
        prefixes.append(decided)
        covered += b.mass
    assert covered + found.unexplored.total == pytest.approx(1.0, abs=1e-6)
    for i, one in enumerate(prefixes):
        for other in prefixes[i + 1 :]:
            n = min(len(one), len(other))
            assert one[:n] != other[:n], "two branches share an event"


@pytest.mark.parametrize(
    "asked",
    [
        {"width": 2, "depth": 2, "horizon": 4}, {"width": 4, "depth": 4, "horizon": 4},
        {"width": 3, "depth": None, "horizon": 4, "most": 9},
        {"width": 4, "depth": 3, "horizon": 5, "cover": 0.6},
        {"width": 4, "depth": 2, "horizon": 5, "gate": 1.1},
        {"width": 4, "depth": None, "horizon": 4, "region": (3, 5)},
        {"width": 4, "depth": 3, "horizon": 4, "least": 0.01},
        {"width": 4, "depth": 3, "horizon": 5, "budget_tokens": 17},
        {"way": "greedy", "width": 4, "depth": None, "horizon": 5},
    ],
)  # fmt: skip
def test_masses_are_probabilities_and_nothing_is_lost(asked: dict[str, object]) -> None:
    check(explore(engine(), PROMPT, outcome="bytes", **asked))


def test_an_exhausted_tree_is_the_whole_truth() -> None:
    found = explore(engine(), PROMPT, outcome="bytes", width=4, depth=None, horizon=4, most=999)
    truth = truth_of(found)
    assert {ids_of(found, b): b.mass for b in found.branches} == pytest.approx(truth, abs=1e-6)
    assert found.unexplored.total == pytest.approx(0.0, abs=1e-6)
    for o in found.outcomes:  # logprobs are float32: their sum is 1 within 1e-7
        assert (o.low, o.high) == pytest.approx((o.mass, o.mass), abs=1e-6)
    assert found.entropy.low == pytest.approx(found.entropy.high, abs=1e-5)
    exact = -sum(p * math.log(p) for p in _by_bytes(truth).values())
    assert found.entropy.value == pytest.approx(exact, abs=1e-5)


def _by_bytes(truth: dict[Text, float]) -> dict[bytes, float]:
    out: dict[bytes, float] = {}
    for text, p in truth.items():
        said = bytes(t for t in text if t != END)
        out[said] = out.get(said, 0.0) + p
    return out


@pytest.mark.parametrize("most", [1, 5, 20, 60])
def test_bounds_of_outcomes_hold(most: int) -> None:
    found = explore(engine(), PROMPT, outcome=r"regex:^.*?([ab])", width=4, depth=None,
                    horizon=4, most=most)  # fmt: skip
    truth = truth_of(found)
    shares: dict[str, float] = {}
    for text, p in truth.items():
        first = next((chr(t) for t in text if t in (97, 98)), "no match")
        shares[first] = shares.get(first, 0.0) + p
    for outcome in found.outcomes:
        assert outcome.low - 1e-6 <= shares[outcome.key] <= outcome.high + 1e-6
    known = {o.key: shares[o.key] for o in found.outcomes}
    coarse = [*known.values(), 1 - sum(known.values())]
    entropy = -sum(p * math.log(p) for p in coarse if p > 0)
    assert found.entropy.low - 1e-6 <= entropy <= found.entropy.high + 1e-6


def test_cosmetic_and_semantic_add_up_to_the_entropies() -> None:
    for asked in ({"depth": 3}, {"depth": None, "most": 11}, {"depth": 2, "gate": 1.0}):
        found = explore(engine(), PROMPT, outcome="regex:^(a|b)?", width=3, horizon=4, **asked)
        masses = [o.mass for o in found.outcomes] + [found.unexplored.total]
        outcomes = -sum(p * math.log(p) for p in masses if p > 0)
        assert found.split.semantic == pytest.approx(outcomes, abs=1e-9)
        lost = [d.rest for d in found.frontier.decisions]
        lost += [p.mass for p in found.frontier.waiting()]
        paths = -sum(p * math.log(p) for p in [*(b.mass for b in found.branches), *lost] if p > 0)
        if found.unexplored.skipped == 0:
            assert found.split.total == pytest.approx(paths, abs=1e-9)
        else:
            assert found.split.total > paths
        for share in found.split.decisions:
            assert share.semantic >= 0
            assert share.cosmetic >= -1e-12
            assert share.explored == pytest.approx(share.semantic + share.cosmetic)
            assert share.explored <= share.token_entropy + 1e-6


def test_it_goes_on_where_it_was_left() -> None:
    asked = {"outcome": "bytes", "width": 3, "horizon": 4}
    whole = explore(engine(), PROMPT, **asked, depth=None, most=30)
    part = explore(engine(), PROMPT, **asked, depth=None, most=7)
    before = part.to_json()
    more = explore(engine(), PROMPT, **asked, depth=None, most=30, resume=part)
    assert part.to_json() == before, "what was given stays as it is"
    assert not part.finished
    assert {tuple(more.ids(b.name)): b.mass for b in more.branches} == pytest.approx(
        {tuple(whole.ids(b.name)): b.mass for b in whole.branches}
    )
    assert more.unexplored.total == pytest.approx(whole.unexplored.total)
    deeper = explore(engine(), PROMPT, **asked, depth=3, resume=explore(
        engine(), PROMPT, **asked, depth=1))  # fmt: skip
    check(deeper)
    with pytest.raises(InputError, match="resume"):
        explore(engine(), "abc", **asked, resume=part)


def test_a_stop_text_ends_a_branch_wherever_it_begins() -> None:
    found = explore(engine(), PROMPT, outcome="bytes", width=4, depth=2, horizon=6, stop=["ca"])
    for b in found.branches:
        said = bytes(i for i in found.ids(b.name) if i != END)
        assert b"ca" not in said[:-1]
        assert (b.finish == "stop") == said.endswith(b"ca")
    assert {b.finish for b in found.branches} > {"stop"}


def test_the_branches_are_forks(bundled: Model) -> None:
    trace = bundled.generate("def add(a, b):\n    return ", max_new_tokens=6)
    found = bundled.explore(trace, width=3, depth=2, horizon=8)
    assert found.trace(0).ids[: len(trace)].tolist() == trace.ids.tolist()
    for b in found.branches[1:4]:
        made = found.trace(b.name)
        ids = found.ids(b.name)
        again = bundled.fork(trace, found.at, ids[: b.at + 1 - found.at], max_new_tokens=0)
        again = bundled.fork(again, len(again), "", max_new_tokens=len(made) - len(again),
                             attention="none")  # fmt: skip
        assert again.ids.tolist() == made.ids.tolist()
        for name in ("logprob", "entropy", "perplexity"):
            assert np.allclose(made.column(name), again.column(name), atol=1e-5, equal_nan=True)


def test_masses_are_those_of_the_model(bundled: Model) -> None:
    """Against transformers' own forward in float64, token by token."""
    hf = AutoModelForCausalLM.from_pretrained(bundled.path, dtype=torch.float64).eval()
    found = bundled.explore("for i in range(", width=4, depth=2, horizon=6)
    total = 0.0
    for b in found.branches:
        ids = [int(i) for i in found.trace(b.name).ids]
        with torch.inference_mode():
            logp = torch.log_softmax(hf(torch.tensor([ids])).logits[0], dim=-1)
        steps = [float(logp[t - 1, ids[t]]) for t in range(found.at, len(ids))]
        assert b.mass == pytest.approx(math.exp(sum(steps[: b.decided - found.at])), abs=1e-6)
        assert b.text_mass == pytest.approx(math.exp(sum(steps)), abs=1e-6)
        total += b.mass
    assert len(found.branches) == 16
    assert total + found.unexplored.total == pytest.approx(1.0, abs=1e-6)
    plain = found.to_json()
    assert sum(o["mass"] for o in plain["outcomes"]) == pytest.approx(total)
    assert {b["outcome"] for b in plain["branches"]} == {o["name"] for o in plain["outcomes"]}


def test_a_sampled_trace_is_followed_and_gone_on_with() -> None:
    made = engine()
    settings = Settings(max_new_tokens=3, temperature=2.0, seed=4, alternatives=4)
    trace = generate(made, prompt=PROMPT, settings=settings).result()
    found = explore(made, trace, outcome="bytes", width=2, depth=2, horizon=5)
    n = len(trace)
    assert found.trace(0).ids[:n].tolist() == trace.ids.tolist()
    check(found)


def test_it_is_refused_before_it_would_not_fit(bundled: Model) -> None:
    with pytest.raises(CapacityError, match="would fit") as refused:
        bundled.explore("x = ", width=8, depth=3, horizon=200, memory=20_000_000)
    assert refused.value.fits is not None
    fits = bundled.explore
    assert 0 < refused.value.fits < 500
    found = fits("x = ", width=2, depth=1, horizon=4, most=refused.value.fits, memory=20_000_000)
    assert len(found.branches) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"width": 0}, {"horizon": 0}, {"cover": 1.5}, {"way": "best"}, {"region": (4, 4)},
        {"stop": [""]}, {"outcome": "taste"}, {"outcome": "regex:("}, {"outcome": "bytes:x"},
        {"at": 0}, {"at": True}, {"depth": -1}, {"speed": 2},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(asked: dict[str, object]) -> None:
    made: Engine = engine()
    with pytest.raises(InputError):
        explore(made, PROMPT, **asked)  # type: ignore[arg-type]
