"""Masses of the distribution that is drawn from, against small models written down whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from tests.explore.small import END, engine, every_text, letters
from tokenscope import edits as e
from tokenscope.errors import InputError
from tokenscope.explore.asked import Ask
from tokenscope.runs.explore import Exploring, explore
from tokenscope.runs.explored import Explored
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.model import Model

A, B, C = b"abc"
WHOLE = {"width": 4, "whole": True, "horizon": 3, "outcome": "bytes"}
Script = Callable[[Sequence[int]], np.ndarray]


def kept(allowed: Callable[[bytes, int], bool], heat: float = 1.0, top_p: float = 1.0) -> Script:
    """The letters' script after a mask over (text so far, token), a temperature and top-p."""

    def script(seen: Sequence[int]) -> np.ndarray:
        z = letters()(seen).astype(np.float64) / heat
        said = bytes(i for i in seen if i < 256)[2:]  # after "ab"
        for token in (A, B, C, END):
            if not allowed(said, token):
                z[token] = -np.inf
        p = np.exp(z - z.max())
        p /= p.sum()
        order = np.argsort(-p, kind="stable")
        held = int(np.searchsorted(np.cumsum(p[order]), top_p) + 1)
        out = np.full(257, -1e9, dtype=np.float64)
        out[order[:held]] = np.log(np.maximum(p[order[:held]], 1e-300))
        return out

    return script


def agree(found: Explored, script: Script) -> None:
    """Every branch holds the truth's mass, and together they hold all."""
    given = [int(i) for i in found.base.ids]
    truth = {t: p for t, p in every_text(script, given, 3) if p > 1e-200}  # type: ignore[arg-type]
    got = {tuple(found.ids(b.name)): b.mass for b in found.branches if b.mass > 0}
    assert set(got) == set(truth)
    for text, p in truth.items():
        assert got[text] == pytest.approx(p, abs=1e-6), text
    assert sum(got.values()) + found.unexplored.total == pytest.approx(1.0, abs=1e-6)


CASES: dict[str, tuple[dict[str, object], Script, str]] = {
    "temperature": ({"temperature": 0.6}, kept(lambda s, t: True, 0.6), "sampler"),
    "nucleus": ({"temperature": 1.3, "top_p": 0.7}, kept(lambda s, t: True, 1.3, 0.7), "sampler"),
    "ban": ({"edits": (e.Ban((A,)),)}, kept(lambda s, t: t != A), "edits"),
    "text": (
        {"edits": (e.BanText(("bb",)),)},  # not begun in the prompt's last bytes either
        kept(lambda s, t: not (t == B and (b"ab" + s)[-1:] == b"b")), "edits",
    ),
    "deadline": (
        {"edits": (e.Require("c", within=2),), "temperature": 0.8},
        kept(lambda s, t: t == C if len(s) == 1 and C not in s else t != END or C in s, 0.8),
        "sampler",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_masses_are_those_of_what_is_drawn(case: str) -> None:
    sampler, truth, name = CASES[case]
    found = explore(engine(), "ab", sampler=sampler, **WHOLE)
    agree(found, truth)
    assert found.masses_of == name == found.to_json()["masses_of"]
    own = explore(engine(), "ab", **WHOLE)  # and the model's own are what they were
    agree(own, letters())  # type: ignore[arg-type]
    assert own.masses_of == "model"


def test_the_traces_own_edits_and_what_was_written() -> None:
    made = engine()
    ban = e.BanText(("bb",))
    settings = Settings(max_new_tokens=3, temperature=0.9, seed=5, alternatives=4, edits=(ban,))
    trace = generate(made, prompt="ab", settings=settings).result()
    found = explore(made, trace, sampler={}, **WHOLE)
    assert found.ids(0) == [int(i) for i in trace.ids[2:]]  # branch 0 is what was written
    agree(found, kept(lambda s, t: not (t == B and (b"ab" + s)[-1:] == b"b"), 0.9))
    assert found.sampler is not None and found.sampler.edits == (ban,)
    # what cannot come under other edits is left where it cannot
    first = int(trace.ids[2])
    other = explore(made, trace, sampler={"edits": (e.Ban((first,)),)}, **WHOLE)
    assert other.ids(0)[0] != first
    assert not any(first in other.ids(b.name) for b in other.branches)
    # nothing between the model's own distribution and the draw: they are the model's masses
    plain = explore(made, "ab", sampler={}, **WHOLE)
    assert plain.masses_of == "model"
    with pytest.raises(InputError, match="sampler"):
        explore(made, "ab", sampler={"taste": 1}, **WHOLE)
    half = explore(made, "ab", sampler={"temperature": 0.6}, **{**WHOLE, "most": 5})
    assert half.spent.ended == "branches"
    agree(explore(made, "ab", sampler={"temperature": 0.6}, resume=half, **WHOLE),
          kept(lambda s, t: True, 0.6))  # fmt: skip
    with pytest.raises(InputError, match="another sampler"):
        explore(made, "ab", resume=half, **WHOLE)


def test_edits_inside_the_model(bundled: Model) -> None:
    prompt = "def add(a, b):\n    return"
    ids = bundled.vocabulary.encode(prompt).ids.tolist()
    module = bundled.backend.model  # type: ignore[attr-defined]
    handle = module.model.layers[1].mlp.register_forward_hook(lambda m, a, o: torch.zeros_like(o))
    with torch.no_grad():
        truth = torch.softmax(module(torch.tensor([ids])).logits[0, -1].double(), -1)
    handle.remove()
    found = bundled.explore(prompt, depth=1, width=5, horizon=3,
                            sampler={"edits": (e.Ablate("mlp", 1),)})  # fmt: skip
    assert len(found.branches) == 5
    assert {found.ids(b.name)[0] for b in found.branches} == set(truth.topk(5).indices.tolist())
    for b in found.branches:
        assert b.mass == pytest.approx(float(truth[found.ids(b.name)[0]]), rel=1e-4)
    again = found.trace(1).columns["logprob_inner"].values[found.at + 1 :]
    assert np.isfinite(again).all()  # behind its first token it was drawn under the edit
    own = bundled.explore(prompt, depth=1, width=5, horizon=3)
    assert own.branches[0].mass != pytest.approx(found.branches[0].mass, rel=1e-3)


def test_memory_is_not_exceeded_while_it_runs(bundled: Model) -> None:
    bundled.prefixes.clear()
    ask = Ask(width=4, depth=3, horizon=8)
    whole = Exploring(bundled, "def f(x):\n    ", ask=ask)
    assert len(whole.run().branches) == 64 and whole.spent.ended == ""
    assert 0 < whole.spent.bytes <= whole.cost.bytes
    bundled.prefixes.clear()
    part = Exploring(bundled, "def f(x):\n    ", ask=ask)
    part.spent.allowed = whole.spent.bytes // 2
    found = part.run()
    assert part.spent.ended == "memory" == found.to_json()["ended"]
    assert 1 < len(found.branches) < 64 and not found.finished
    part.fits()
    assert part.spent.bytes <= part.spent.allowed
    assert sum(b.mass for b in found.branches) + found.unexplored.total == pytest.approx(1.0)
    more = bundled.explore(found.trace(0), found.at, resume=found)
    assert len(more.branches) == 64
