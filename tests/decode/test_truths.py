"""Small lies that were told once: each has a test here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tokenscope.backends.protocol import Feed, Full
from tokenscope.backends.scripted import ScriptedBackend, hashed, saying
from tokenscope.decode.engine import Engine
from tokenscope.decode.limits import room
from tokenscope.errors import AbilityError, CapacityError, InputError, ModelError
from tokenscope.metrics.step import METRICS, Distribution
from tokenscope.runs.attend import attention_rows
from tokenscope.runs.generate import Settings, fork, generate, score
from tokenscope.runs.model import Model
from tokenscope.trace.edits import Ban, Bias, Force, UnknownEdit
from tokenscope.trace.inside import Ablate
from tokenscope.trace.origin import Origin


def test_the_end_token_costs_no_byte() -> None:
    trace = generate(Engine(ScriptedBackend(saying("abc"))), prompt="a").result()
    assert trace.finish == "eos"
    s, nats = trace.summary(), trace.column("surprisal").astype(np.float64)
    assert s["perplexity"] == pytest.approx(np.exp(nats[1:].mean()))  # the end token counts
    assert s["bits_per_byte"] == pytest.approx(nats[1:3].sum() / np.log(2) / 2)
    scored = score(Engine(ScriptedBackend()), "abcd").result()  # no start token: 3 of 4 measured
    nats = scored.column("surprisal").astype(np.float64)
    assert scored.summary()["bits_per_byte"] == pytest.approx(nats[1:].sum() / np.log(2) / 3)


def test_an_old_run_leaves_nothing_of_its_own_in_a_new_prompt() -> None:
    host = Engine(ScriptedBackend(saying("hello world")))
    hot = Settings(max_new_tokens=6, temperature=0.5)
    generate(host, prompt="hello", settings=hot).result()
    for settings in (hot, Settings(max_new_tokens=3)):
        fresh = Engine(ScriptedBackend(saying("hello world")))
        again = generate(host, prompt="hello wo", settings=settings).result()
        alone = generate(fresh, prompt="hello wo", settings=settings).result()
        assert set(again.columns) == set(alone.columns)
        assert again.attention is not None and alone.attention is not None
        assert again.attention.first == alone.attention.first == again.n_prompt


def test_a_prompt_that_was_once_drawn_has_no_sampled_logprob() -> None:
    host = Engine(ScriptedBackend(saying("hello world")))
    hot = Settings(max_new_tokens=6, temperature=0.5)
    generate(host, prompt="hello", settings=hot).result()
    trace = generate(host, prompt="hello wo", settings=hot).result()
    assert np.isnan(trace.column("logprob_sampled")[: trace.n_prompt]).all()
    assert np.isfinite(trace.column("logprob_sampled")[trace.n_prompt :]).all()


def test_a_branch_keeps_the_history_of_what_it_kept() -> None:
    host = Engine(ScriptedBackend())
    base = generate(host, prompt="abc", settings=Settings(max_new_tokens=20)).result()
    hot = Settings(max_new_tokens=10, temperature=1.0, seed=3, edits=(Ban((65,)),))
    one = fork(host, base, 10, "xyz", hot).result()
    early = fork(host, one, 6, "q", Settings(max_new_tokens=4)).result()
    assert early.origin.edits == (Force(6, (ord("q"),), int(base.ids[6])),)
    inside = fork(host, one, 11, "r", Settings(max_new_tokens=4)).result()
    assert [e.ids for e in inside.origin.edits] == [(ord("x"),), (ord("r"),)]  # type: ignore[attr-defined]
    segments = [one.origin.segment(t) for t in range(len(one))]
    assert [s.start if s else None for s in segments] == (
        [None] * 3 + [3] * 7 + [None] * 3 + [13] * (len(one) - 13)
    )
    last = segments[-1]
    assert last is not None
    assert (last.seed, last.edits, last.sampler["temperature"]) == (3, (Ban((65,)),), 1.0)
    assert Origin.from_json(one.origin.to_json()) == one.origin
    assert one.origin.request.prompt == "abc"
    # what the parent drew keeps what it was drawn from; what was put in was not drawn
    drawn = one.column("logprob_sampled")
    assert np.isnan(drawn[:13]).all() and np.isfinite(drawn[13:]).all()
    greedy = fork(host, one, len(one), "", Settings(max_new_tokens=2)).result()
    assert np.isfinite(greedy.column("logprob_sampled")[13 : len(one)]).all()


def test_a_branch_records_what_it_was_asked_to() -> None:
    host = Engine(ScriptedBackend())
    base = generate(host, prompt="abc", settings=Settings(max_new_tokens=20)).result()
    assert base.attention is not None
    none = fork(host, base, 10, 66, Settings(max_new_tokens=4, attention="none")).result()
    assert none.attention is None
    full = fork(host, base, 10, 66, Settings(max_new_tokens=4, attention="full")).result()
    assert full.attention is not None
    assert (full.attention.form, full.attention.first) == ("full", 10)


def test_a_new_metric_is_measured_at_a_branch_token_too() -> None:
    def third(d: Distribution) -> torch.Tensor:
        return d.logp.topk(3, dim=1).values[:, 2]

    host = Engine(ScriptedBackend())
    old = generate(host, prompt="abc", settings=Settings(max_new_tokens=12)).result()
    METRICS.add("third_of_a_test", third)
    try:
        new = generate(
            Engine(ScriptedBackend()), prompt="abc", settings=Settings(max_new_tokens=12)
        ).result()
        for base in (new, old):  # a parent from before the metric is measured again
            assert base.alternatives is not None
            token = int(base.alternatives.ids[8][2])
            branch = fork(host, base, 8, token, Settings(max_new_tokens=3)).result()
            assert np.isfinite(branch.column("third_of_a_test")[1:]).all()
    finally:
        del METRICS._items["third_of_a_test"], METRICS._names["third_of_a_test"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused_by_position(bad: float) -> None:
    def script(ids: list[int]) -> np.ndarray:
        logits = hashed(ids)
        if len(ids) >= 7:
            logits[3] = bad
        return logits

    run = generate(Engine(ScriptedBackend(script)), prompt="abc")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="token 7 are not numbers"):
        run.result()
    assert run.finish == "error"
    assert len(run.trace) == 7
    with pytest.raises(ModelError, match="token 7"):
        score(Engine(ScriptedBackend(script)), "abcdefghijkl").result()  # type: ignore[arg-type]


def test_edits_of_a_newer_version_are_kept_and_not_applied() -> None:
    host = Engine(ScriptedBackend())
    trace = generate(host, prompt="abc", settings=Settings(max_new_tokens=3)).result()
    data = trace.origin.to_json()
    strange = {"kind": "steer", "vector": [1, 2], "layer": 3}
    data["edits"] = [strange, {"kind": "ban", "ids": [1], "newly": True}]
    data["segments"][0]["edits"] = [strange]
    origin = Origin.from_json(data)
    assert isinstance(origin.edits[0], UnknownEdit) and isinstance(origin.edits[1], UnknownEdit)
    assert origin.to_json() == data
    assert replace(trace, origin=origin).cut(4).origin == origin
    with pytest.raises(AbilityError, match="steer"):
        generate(host, prompt="abc", settings=Settings(edits=(origin.edits[0],)))


def test_edits_change_what_is_drawn_and_not_what_is_measured() -> None:
    host = Engine(ScriptedBackend(saying("hello world")))
    plain = generate(host, prompt="hello", settings=Settings(max_new_tokens=4)).result()
    banned = Settings(max_new_tokens=4, edits=(Ban((ord(" "),)), Bias((ord("q"),), 20.0)))
    trace = generate(host, prompt="hello", settings=banned).result()
    assert trace.text == "helloqqqq"
    for name in ("entropy", "margin"):
        assert trace.column(name)[5] == plain.column(name)[5]
    z = saying("hello world")(list(b"hello")).astype(np.float64)
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    assert trace.column("probability")[5] == pytest.approx(p[ord("q")], rel=1e-4)
    z[ord(" ")], z[ord("q")] = -np.inf, z[ord("q")] + 20.0
    q = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    assert np.exp(trace.column("logprob_sampled")[5]) == pytest.approx(q[ord("q")], rel=1e-4)
    everything = Settings(edits=(Ban(tuple(range(257))),))
    with pytest.raises(InputError, match="no token"):
        generate(host, prompt="hello", settings=everything).result()
    with pytest.raises(InputError, match="not in 0"):
        generate(host, prompt="hello", settings=Settings(edits=(Ban((300,)),)))


def test_looking_at_attention_keeps_the_measured_start() -> None:
    backend = ScriptedBackend()
    host = Engine(backend)
    trace = generate(host, prompt="a prompt", settings=Settings(max_new_tokens=8)).result()
    attention_rows(host, trace, len(trace) - 1)
    fed = backend.fed
    again = generate(host, prompt="a prompt", settings=Settings(max_new_tokens=1)).result()
    assert backend.fed - fed <= 1
    assert again.ids[-1] == trace.ids[again.n_prompt]


def test_room_knows_growth_and_how_far_a_row_can_name() -> None:
    info = replace(ScriptedBackend(context=1 << 20).info, state_bytes_per_token=1000)
    with pytest.raises(CapacityError) as caught:
        room(info, 10, 70_000, "top")
    assert caught.value.fits == 65_535
    assert room(info, 10, 65_525, "top") == 65_525
    assert room(info, 10, 70_000, "none") == 70_000
    # a memory that just fits does not, once it must be copied to grow
    from tokenscope.decode import limits

    free = limits.free_bytes("cpu") * limits.RESERVE
    tight = replace(info, state_bytes_per_token=int(free / 100_000 / 1.2))
    with pytest.raises(CapacityError, match="GB"):
        room(tight, 10, 100_000, "none")


def test_a_branch_inside_the_prompt_feeds_one_token_too() -> None:
    backend = ScriptedBackend()
    host = Engine(backend)
    trace = generate(host, prompt="abcdef", settings=Settings(max_new_tokens=8)).result()
    assert trace.alternatives is not None
    token = int(trace.alternatives.ids[3][2])
    fed = backend.fed
    branch = fork(host, trace, 3, token, Settings(max_new_tokens=1)).result()
    assert backend.fed - fed == 1
    bare = replace(trace, alternatives=None)  # nothing to take the figures from
    long_way = fork(Engine(ScriptedBackend()), bare, 3, token, Settings(1)).result()
    assert branch.ids.tolist() == long_way.ids.tolist()
    assert branch.n_prompt == 4
    for name in set(branch.columns) - {"time_ms"}:
        got, want = branch.column(name), long_way.column(name)
        assert np.allclose(got, want, equal_nan=True, atol=1e-5), name
    assert branch.attention is not None and branch.attention.first == 4


def test_what_was_read_under_an_inner_edit_stays_there() -> None:
    """Kept memories and measurements are found again only under the same inner edits."""
    host = Engine(ScriptedBackend())
    trace = generate(host, prompt="a prompt", settings=Settings(max_new_tokens=4)).result()
    steered = host.stepper.start()
    host.stepper.extend(Feed(steered, trace.ids.tolist()))
    inner = (Bias((1,), 2.0),)  # stands for an edit inside the model: any value that has a hash
    host.prefixes.clear()
    host.prefixes.put(steered, trace, inner)
    assert len(host.prefixes.take(trace.ids, 5).ids) == 0
    assert host.prefixes.measured(trace.ids, 10) is None
    assert len(host.prefixes.take(trace.ids, 5, inner).ids) == 5
    assert host.prefixes.measured(trace.ids, 10, inner) is not None
    clean = host.stepper.start()
    host.stepper.extend(Feed(clean, [*trace.ids.tolist(), 1]))
    host.prefixes.put(clean, trace)  # longer, and yet it does not take the steered one's place
    assert len(host.prefixes) == 2
    assert len(host.prefixes.take(trace.ids, 5, inner).ids) == 5


def test_a_run_under_an_edit_inside_keeps_its_two_memories_apart(bundled: Model) -> None:
    """What it leaves for others to start from: the clean memory, and the changed one under its
    edits."""
    host = Engine(bundled.backend)
    settings = Settings(max_new_tokens=6, edits=(Ablate("mlp", 2),))
    run = generate(host, prompt="def area(w, h):\n    return", settings=settings)
    ids = run.result().ids.tolist()
    n, inner = len(ids) - 2, run._plan.applied.inner
    own, changed = host.prefixes.take(ids, n), host.prefixes.take(ids, n, inner)
    assert len(own.ids) == len(changed.ids) == n
    fresh = host.stepper.start()
    host.stepper.extend(Feed(fresh, ids[:n], scores=0))
    after = []
    for state in (fresh, own, changed):  # all read the next token without any edit
        scores = host.stepper.extend(Feed(state, [ids[n]], scores=1)).scores
        assert isinstance(scores, Full)
        after.append(np.asarray(scores.logits))
    assert np.abs(after[1] - after[0]).max() < 1e-4 * np.abs(after[0]).max()
    assert np.abs(after[2] - after[0]).max() > 1e-2 * np.abs(after[0]).max()
    assert host.prefixes.measured(ids, 10) is not None  # the model's own numbers, whatever drew
    assert host.prefixes.measured(ids, 10, inner) is None


def test_the_budget_counts_shared_memory_once(bundled: Model) -> None:
    host = Engine(bundled.backend)
    trace = generate(host, prompt="x = 1\n" * 60, settings=Settings(max_new_tokens=4)).result()
    one = host.prefixes.nbytes
    for n in range(10):
        fork(host, trace, trace.n_prompt - 1, 30 + n, Settings(max_new_tokens=2)).result()
    assert len(host.prefixes) == 11
    assert host.prefixes.nbytes < 2.5 * one
    host.prefixes.budget = one
    fork(host, trace, 5, 77, Settings(max_new_tokens=1)).result()
    assert host.prefixes.nbytes <= one
    host.prefixes.clear()
    assert host.prefixes.nbytes == 0
