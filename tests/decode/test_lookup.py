"""Proposals change how many passes there are, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.decode.engine import Engine
from tokenscope.decode.lookup import REST, Cost, Ngrams, Speculation
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.model import Model
from tokenscope.trace import Trace


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 8))
def test_the_longest_earlier_run_is_continued(ids: list[int], most: int) -> None:
    want: list[int] = []
    for size in (4, 3, 2):  # by hand: the latest earlier place of the longest ending
        ends = [e for e in range(size, len(ids)) if ids[e - size : e] == ids[len(ids) - size :]]
        if len(ids) >= size and ends:
            long = list(ids)
            for n in range(most):
                long.append(long[ends[-1] + n])
            want = long[len(ids) :]
            break
    assert Ngrams(ids).continuation(most) == want


def test_what_does_not_pay_rests() -> None:
    cost = Cost()
    cost.saw(1, 10.0)
    cost.saw(3, 90.0)
    assert cost.of(3) < 1.5  # a guess: one pass may have met with anything
    for _ in range(2):
        cost.saw(3, 18.0)
    assert cost.of(3) == pytest.approx(1.8)
    assert 1.8 < cost.of(5) < 2.5  # from there on a guess
    ids = [1, 2, 3, 1, 2]
    work = Speculation(ids, cost)
    assert work.propose(8) == [3, 1]
    assert work.propose(0) == []
    for _ in range(2):  # 0.8 of a pass lost each time
        assert work.propose(8)
        work.saw(2, 0)
    assert work.propose(8) == []
    for n in range(REST):
        ids.append((1, 2, 3)[n % 3])
        work.add(ids[-1])
    assert work.propose(8)
    work.saw(2, 0)  # one try was enough to see that nothing has changed
    assert work.propose(8) == []


def test_proposals_are_as_long_as_is_believed() -> None:
    work = Speculation([1, 2, 3, 4, 5, 6, 7, 8, 9] * 2, Cost())
    lengths = []
    for believed in (2, 5, 11, 15, 3, 0, 2):
        lengths.append(len(work.propose(100)))
        work.saw(lengths[-1], believed)
    assert lengths == [2, 5, 11, 15, 15, 4, 2]


def repeating(ids: list[int]) -> np.ndarray:
    logits = hashed(ids)[:256] * np.float32(0.5)
    if len(ids) > 12:
        logits[ids[-12]] += 6.0
    return logits


class Counting(ScriptedBackend):
    """Counts passes."""

    passes = 0

    def extend_many(self, feeds):  # type: ignore[no-untyped-def]
        self.passes += 1
        return super().extend_many(feeds)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize("form", ["top", "full", "none"])
def test_same_trace_in_fewer_passes(
    temperature: float, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cost, "of", lambda self, tokens: 1.0)  # a proposal always pays
    made: dict[str, Trace] = {}
    passes: dict[str, int] = {}
    for speculate in ("auto", "none"):
        backend = Counting(repeating)  # type: ignore[arg-type]
        host = Engine(backend)
        settings = Settings(
            120, temperature, seed=4, attention=form, speculate=speculate, repetition_penalty=1.05,
        )  # type: ignore[arg-type]  # fmt: skip
        made[speculate] = generate(host, prompt="a prompt of words", settings=settings).result()
        passes[speculate] = backend.passes
    a, b = made["auto"], made["none"]
    assert passes["auto"] < passes["none"] / 1.4
    assert a.ids.tolist() == b.ids.tolist()
    assert a.finish == b.finish
    assert a.alternatives is not None and b.alternatives is not None
    assert np.array_equal(a.alternatives.ids, b.alternatives.ids)
    for name in set(a.columns) - {"time_ms"}:
        assert np.allclose(a.column(name), b.column(name), equal_nan=True, atol=1e-6), name
    assert np.isfinite(a.column("time_ms")[1:]).all()
    if form != "none":
        assert a.attention is not None and b.attention is not None
        for t in range(a.n_prompt, len(a)):
            assert np.array_equal(a.attention.block(t), b.attention.block(t))


@pytest.mark.parametrize("stop", ["efg", "gh", "h"])
def test_ends_inside_a_proposal_are_ends(stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cost, "of", lambda self, tokens: 1.0)

    def script(ids: list[int]) -> np.ndarray:
        logits = np.zeros(257, dtype=np.float32)
        logits[b"abcdefgh"[len(ids) % 8] if len(ids) != 45 else 256] = 9.0
        return logits

    for settings in (Settings(60, stop=(stop,)), Settings(60), Settings(13)):
        text = "abcdefghabc" if settings.stop else "abcdefghabcdefghab"
        runs = [
            generate(
                Engine(ScriptedBackend(script)),  # type: ignore[arg-type]
                prompt=text,
                settings=Settings(settings.max_new_tokens, stop=settings.stop, speculate=speculate),  # type: ignore[arg-type]
            )
            for speculate in ("auto", "none")
        ]
        one, two = (r.result() for r in runs)
        assert one.ids.tolist() == two.ids.tolist()
        assert one.finish == two.finish
        spoken = runs[0]._decoding.machine.speculation
        assert spoken is not None and spoken.taken > 0
        assert len(runs[0]._decoding.state.ids) == len(one) - 1  # what was not believed is gone


def test_a_memory_that_cannot_go_back_gets_no_proposals() -> None:
    backend = ScriptedBackend(repeating, fork="copy")  # type: ignore[arg-type]
    run = generate(Engine(backend), prompt="a prompt of words", settings=Settings(40))
    run.result()
    assert run._decoding.machine.speculation is None


def test_a_real_network_says_the_same(bundled: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cost, "of", lambda self, tokens: 1.0)
    code = "def area(w, h):\n    return w * h\n\n\ndef volume(w, h, d):\n    return w * h * d\n\n\n"
    for temperature in (0.0, 0.8):
        made = []
        for speculate in ("auto", "none"):
            bundled.prefixes.clear()
            settings = Settings(48, temperature, seed=2, speculate=speculate)  # type: ignore[arg-type]
            run = generate(bundled, prompt=code, settings=settings)
            made.append(run.result())
            if speculate == "auto" and not temperature:
                assert run._decoding.machine.speculation is not None
                assert run._decoding.machine.speculation.taken > 0
        a, b = made
        assert a.ids.tolist() == b.ids.tolist()
        for name in ("logprob", "entropy", "varentropy", "margin", "perplexity"):
            error = np.abs(a.column(name) - b.column(name)) / np.maximum(1, np.abs(b.column(name)))
            assert np.nanmax(error) < 1e-5, name
