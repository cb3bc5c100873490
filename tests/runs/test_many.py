"""Branches decoded together: the ids and numbers of each alone, and one memory for all."""

from __future__ import annotations

import numpy as np
import pytest

from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.runs.generate import Settings, fork, generate
from tokenscope.runs.many import Branch, fork_many, forks, together
from tokenscope.runs.model import Model
from tokenscope.runs.run import Run
from tokenscope.trace import Trace

PROMPT = "def read_lines(path):\n    with open(path) as f:\n"


def alike(a: Trace, b: Trace) -> None:
    assert a.ids.tolist() == b.ids.tolist() and a.finish == b.finish
    assert a.n_prompt == b.n_prompt and a.origin.segments == b.origin.segments
    for name in set(a.columns) - {"time_ms"}:
        assert np.allclose(a.column(name), b.column(name), rtol=1e-5, atol=1e-5, equal_nan=True), (
            name
        )
    assert (a.attention is None) == (b.attention is None)
    if a.attention is not None and b.attention is not None:
        assert a.attention.first == b.attention.first and a.attention.count == b.attention.count
        t = len(a) - 1
        assert np.allclose(a.attention.block(t), b.attention.block(t), atol=2e-3)


@pytest.fixture(scope="module")
def base(bundled: Model) -> Trace:
    return generate(bundled, prompt=PROMPT, settings=Settings(24, alternatives=10)).result()


def asked(base: Trace) -> list[Branch]:
    """Greedy and drawn, inside the prompt and after it, short and long."""
    held = base.alternatives
    assert held is not None
    out = [
        Branch(base, at, int(held.ids[at][1 + n % 3]), {"max_new_tokens": 4 + 5 * (n % 4)})
        for n, at in enumerate(range(base.n_prompt, len(base), 4))
    ]
    out += [Branch(base, base.n_prompt + 3, [], {"seed": n, "temperature": 1.0}) for n in range(6)]
    out += [Branch(base, 4, " handle"), Branch(base, len(base), ""), Branch(base, 6, [9, 8, 7])]
    return out


@pytest.mark.parametrize("attention", ["top", "none"])
def test_branches_together_are_those_of_each_alone(
    bundled: Model, base: Trace, attention: str
) -> None:
    settings = Settings(20, attention=attention)  # type: ignore[arg-type]
    many = asked(base)
    for width in (5, 32):
        bundled.prefixes.clear()
        found = fork_many(bundled, many, settings, width=width)
        assert len(found) == len(many)
        for b, got in zip(many, found, strict=True):
            bundled.prefixes.clear()
            own = {**{n: getattr(settings, n) for n in Settings.__dataclass_fields__}, **b.own}
            alike(got, fork(bundled, b.trace, b.at, b.token, Settings(**own)).result())


def test_the_memory_of_a_trace_is_read_once(bundled: Model, base: Trace) -> None:
    host = Engine(bundled.backend)
    fed: list[int] = []
    inner = type(bundled.backend).extend_many

    class Counting:
        def __init__(self) -> None:
            self.__dict__.update(bundled.backend.__dict__)

        def __getattr__(self, name: str) -> object:
            return getattr(bundled.backend, name)

        def extend_many(self, feeds: list[object]) -> object:
            fed.append(sum(len(f.ids) for f in feeds))  # type: ignore[attr-defined]
            return inner(bundled.backend, feeds)  # type: ignore[arg-type]

    host = Engine(Counting())  # type: ignore[arg-type]
    at = len(base) - 1
    held = base.alternatives
    assert held is not None
    settings = Settings(3, attention="none", speculate="none")
    fork_many(host, [(base, at, int(held.ids[at][n])) for n in range(8)], settings)
    assert sum(fed) <= len(base) + 8 * 5  # not 8 times the base


def test_a_watcher_sees_every_step_and_may_end_a_branch(bundled: Model, base: Trace) -> None:
    seen: dict[int, int] = {}

    def watch(number: int, run: Run, step: Step) -> None:
        seen[number] = step.end
        if number == 1 and step.end >= base.n_prompt + 6:
            run.cancel()

    many = [(base, base.n_prompt + 2, n) for n in (20, 30, 40)]
    found = dict(together(forks(bundled, many, Settings(12, speculate="none")), 2, watch))
    assert [found[n].finish for n in range(3)] == ["length", "cancelled", "length"]
    assert {n: len(r.trace) for n, r in found.items()} == seen
    assert len(found[1].trace) <= base.n_prompt + 8
    with pytest.raises(InputError, match="unknown setting"):
        fork_many(bundled, [Branch(base, 3, 5, {"colour": 1})])
    with pytest.raises(InputError, match="token index"):
        fork_many(bundled, [(base, 999, 5)])
