"""Runs beside one another: the same ids as alone, one pass for all, nobody in nobody's way."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from tokenscope.backends.protocol import Extension, Feed
from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.decode.engine import Engine
from tokenscope.decode.pace import Pace
from tokenscope.errors import InputError
from tokenscope.runs.generate import Settings, generate
from tokenscope.runs.many import generate_many
from tokenscope.runs.run import Run
from tokenscope.trace import Trace

HOT = Settings(max_new_tokens=40, temperature=1.0, speculate="none")


class Watched(ScriptedBackend):
    """Counts passes, and how many threads are inside at once. ``gate``: each pass waits for it."""

    def __init__(self, **options: object) -> None:
        super().__init__(lambda ids: hashed(ids)[:256], **options)  # type: ignore[arg-type]
        self.widths: list[int] = []
        self.inside = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        self.inside += 1
        assert self.inside == 1, "two threads feed the model at once"
        self.entered.set()
        assert self.gate.wait(30)
        self.widths.append(len(feeds))
        try:
            return super().extend_many(feeds)
        finally:
            self.inside -= 1


def alone(prompt: str, settings: Settings) -> Trace:
    return generate(Engine(Watched()), prompt=prompt, settings=settings).result()


def same(a: Trace, b: Trace) -> None:
    assert a.ids.tolist() == b.ids.tolist()
    for name in set(a.columns) - {"time_ms"}:
        assert np.allclose(a.column(name), b.column(name), rtol=0, atol=1e-5, equal_nan=True), name


def at_once(*work: object) -> None:
    threads = [threading.Thread(target=w, daemon=True) for w in work]  # type: ignore[arg-type]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
    assert not any(t.is_alive() for t in threads)


def test_runs_in_threads_share_passes_and_change_nothing() -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    backend.gate.clear()
    runs = [
        generate(host, prompt=f"run {n}", settings=Settings(40, 1.0, seed=n, speculate="none"))
        for n in range(6)
    ]
    threads = [threading.Thread(target=r.result, daemon=True) for r in runs]
    for t in threads:
        t.start()
    assert backend.entered.wait(30)
    while len(host.turn._queue) < 5:  # all others wait for the first pass to end
        threading.Event().wait(0.001)
    backend.gate.set()
    for t in threads:
        t.join(timeout=60)
    assert not any(t.is_alive() for t in threads)
    for n, run in enumerate(runs):
        same(run.trace, alone(f"run {n}", Settings(40, 1.0, seed=n, speculate="none")))
    assert sum(backend.widths) == 6 * 40
    assert max(backend.widths) == 6
    assert len(backend.widths) < 120  # one by one it would be 240


def test_many_in_one_thread_go_in_one_pass() -> None:
    host = Engine(Watched())
    prompts = [f"prompt {n}" for n in range(10)]
    traces = generate_many(host, prompts, HOT, width=4)
    for prompt, trace in zip(prompts, traces, strict=True):
        same(trace, alone(prompt, HOT))
    assert len(traces) == 10
    widths = host.backend.widths  # type: ignore[attr-defined]
    assert max(widths) == 4 and len(widths) < 10 * 40 / 2
    own = generate_many(host, [{"prompt": "a", "max_new_tokens": 2, "seed": 5}, "b"], HOT)
    assert [len(t) for t in own] == [3, 41]
    with pytest.raises(InputError, match="unknown setting"):
        generate_many(host, [{"prompt": "a", "colour": 1}])


def test_short_prompts_are_read_together_and_long_ones_are_not() -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    prompts = [f"{n}" * 40 for n in range(5)]
    for prompt, trace in zip(prompts, generate_many(host, prompts, HOT), strict=True):
        same(trace, alone(prompt, HOT))
    assert max(backend.widths[:4]) > 1, "once the pace is known, prompts of 40 tokens go together"
    backend.widths.clear()
    generate_many(host, [f"{n}" * 600 for n in range(5, 9)], HOT)
    assert set(backend.widths[:2]) == {1}


def test_a_run_that_is_left_alone_is_not_driven_on() -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    left = generate(host, prompt="left", settings=HOT)
    steps = iter(left)
    for _ in range(5):
        next(steps)
    at = len(left.trace)
    generate(host, prompt="other", settings=HOT).result()
    assert backend.widths[-40:] == [1] * 40
    assert len(left.trace) == at
    same(left.result(), alone("left", HOT))


def test_two_runs_take_turns() -> None:
    """Neither is more than a few tokens ahead while both go on, and never two in the model."""
    host = Engine(Watched())
    order: list[int] = []
    started = threading.Barrier(2)

    def work(which: int) -> None:
        run = generate(host, prompt="turns", settings=Settings(60, 1.0, seed=which))
        started.wait()
        for _ in run:
            order.append(which)

    at_once(lambda: work(0), lambda: work(1))
    first = next(n for n, w in enumerate(order) if w != order[0])
    last = max(n for n, w in enumerate(order) if w != order[-1])
    lead = np.cumsum([1 if w else -1 for w in order[first : last + 1]])
    assert np.abs(lead).max() <= 8


def test_a_long_prompt_lets_steps_through(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    generate(host, prompt="x", settings=Settings(1)).result()
    backend.gate.clear()
    backend.entered.clear()
    long = generate(host, prompt="p" * 3000, settings=Settings(1))
    short = generate(host, prompt="s", settings=Settings(8, 1.0, speculate="none"))
    order: list[str] = []
    monkeypatch.setattr(Pace, "chunk", lambda self: 100)

    def read(run: Run, name: str) -> None:
        for _ in run:
            order.append(name)

    one = threading.Thread(target=read, args=(long, "long"), daemon=True)
    one.start()
    assert backend.entered.wait(30)
    two = threading.Thread(target=read, args=(short, "short"), daemon=True)
    two.start()
    while len(host.turn._queue) < 1:
        threading.Event().wait(0.001)
    backend.gate.set()
    one.join(60)
    two.join(60)
    assert order.count("long") >= 30
    assert order[: order.index("short") + 1].count("long") <= 4
    last = len(order) - 1 - order[::-1].index("short")
    assert order[:last].count("long") < 25


def test_an_error_stays_with_its_run() -> None:
    def script(ids: Sequence[int]) -> np.ndarray:
        if bytes(ids[:3]) == b"bad" and len(ids) == 9:
            raise RuntimeError("a kernel died")
        return hashed(ids)[:256]

    host = Engine(ScriptedBackend(script))
    good = generate(host, prompt="good", settings=HOT)
    bad = generate(host, prompt="bad", settings=HOT)
    errors: list[BaseException] = []

    def fails() -> None:
        try:
            bad.result()
        except RuntimeError as error:
            errors.append(error)

    at_once(fails)
    at_once(lambda: good.result())
    assert [str(e) for e in errors] == ["a kernel died"]
    assert bad.finish == "error" and len(bad.trace) == 9
    same(good.trace, alone("good", HOT))
    with host.turn:  # nobody holds the turn any more
        pass


def test_a_refused_feed_does_not_take_its_company_along() -> None:
    class Refusing(Watched):
        def _check(self, feed: Feed, others: Sequence[object]) -> None:
            if bytes(feed.state.ids[:3]) == b"bad" and len(feed.state.ids) == 9:
                raise InputError("ids", "refused")
            super()._check(feed, others)  # type: ignore[arg-type]

    host = Engine(Refusing())
    runs = [generate(host, prompt=p, settings=HOT) for p in ("good", "bad", "fine")]
    for run in runs:
        run.join_others()
    for _ in range(5):
        for run in runs:
            next(iter(run))
    with pytest.raises(InputError, match="refused"):
        runs[1].result()
    for run, prompt in ((runs[0], "good"), (runs[2], "fine")):
        same(run.result(), alone(prompt, HOT))


def test_who_is_interrupted_while_waiting_is_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Engine(Watched())
    real = threading.Event.wait
    with host.turn:

        def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

        run = generate(host, prompt="abc", settings=HOT)
        monkeypatch.setattr(threading.Event, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(iter(run))
        monkeypatch.setattr(threading.Event, "wait", real)
    done: list[Trace] = []
    at_once(lambda: done.append(generate(host, prompt="abc", settings=HOT).result()))
    same(done[0], alone("abc", HOT))


def test_the_turn_keeps_runs_out() -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    run = generate(host, prompt="abc", settings=HOT)
    with host.turn:
        thread = threading.Thread(target=run.result, daemon=True)
        thread.start()
        while not host.turn._queue:
            threading.Event().wait(0.001)
        assert backend.widths == []
    thread.join(60)
    same(run.trace, alone("abc", HOT))


def test_cancel_from_another_thread_ends_within_a_step() -> None:
    host = Engine(Watched())
    backend: Watched = host.backend  # type: ignore[assignment]
    run = generate(host, prompt="abc", settings=HOT)
    for step in run:
        if step.end == 8:
            passes = len(backend.widths)
            at_once(run.cancel)
    assert run.finish == "cancelled"
    assert len(backend.widths) == passes
    assert len(run.trace) == 8
