"""The loop on the scripted backend: golden traces, ends, forks, turns, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tokenscope.backends.scripted import END, ScriptedBackend, hashed, saying
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.runs.attend import attended_by, attention_rows
from tokenscope.runs.generate import Settings, fork, generate, score


def engine(text: str = "hello world", **options: object) -> Engine:
    return Engine(ScriptedBackend(saying(text), **options))  # type: ignore[arg-type]


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    return z - np.log(np.exp(z - z.max()).sum()) - z.max()


def test_golden_trace() -> None:
    trace = generate(engine(), prompt="hello", settings=Settings(max_new_tokens=20)).result()
    assert trace.text == "hello world"
    assert trace.n_prompt == 5
    assert trace.finish == "eos"
    assert trace.tokens[11].label == "<end>"
    script = saying("hello world")
    for t in range(1, len(trace)):
        want = log_softmax(script(trace.ids[:t].tolist()))
        assert abs(trace.column("logprob")[t] - want[trace.ids[t]]) < 1e-5
    assert (trace.column("rank")[1:] == 1).all()


def test_every_column_is_nan_at_token_0_and_finite_after() -> None:
    trace = generate(engine(), prompt="hello", settings=Settings(max_new_tokens=4)).result()
    for name in trace.columns:
        values = trace.column(name)
        assert values.dtype == np.float32
        assert np.isnan(values[0])
        start = trace.n_prompt if name == "perplexity" else 1
        assert np.isfinite(values[start:]).all(), name


def test_ends() -> None:
    for settings, text, finish in [
        (Settings(max_new_tokens=3), "hello wo", "length"),
        (Settings(stop=("wor",)), "hello wor", "stop"),
        (Settings(stop=(" w", "zzz")), "hello w", "stop"),
        (Settings(max_new_tokens=0), "hello", "scored"),
    ]:
        trace = generate(engine(), prompt="hello", settings=settings).result()
        assert (trace.text, trace.finish) == (text, finish)


def test_context_end() -> None:
    run = generate(
        Engine(ScriptedBackend(hashed, context=12)), prompt="hello",
        settings=Settings(max_new_tokens=50),
    )  # fmt: skip
    assert run.total == 12
    trace = run.result()
    assert trace.finish in ("length", "eos")
    assert len(trace) <= 12


def test_refusals_before_anything_is_decoded() -> None:
    small = Engine(ScriptedBackend(context=8))
    with pytest.raises(CapacityError) as caught:
        generate(small, prompt="123456789")
    assert caught.value.fits == 7
    with pytest.raises(InputError, match="empty"):
        generate(small, prompt="")
    with pytest.raises(InputError, match="exactly one"):
        generate(small)
    with pytest.raises(AbilityError):
        generate(small, prompt="a", suffix="b")
    with pytest.raises(AbilityError):
        generate(small, messages=[{"role": "user", "content": "x"}])
    trace = generate(small, prompt="abc", settings=Settings(max_new_tokens=2)).result()
    for at in (-1, 99):
        with pytest.raises(InputError, match="at"):
            fork(small, trace, at, 65)
    with pytest.raises(InputError, match="token id"):
        fork(small, trace, 2, 5000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("nan")), ("temperature", -1.0), ("top_p", 0.0), ("top_p", 2.0),
        ("min_p", float("inf")), ("top_k", -1), ("seed", -5), ("repetition_penalty", 0.0),
        ("max_new_tokens", -1), ("max_new_tokens", True), ("alternatives", 10**9),
        ("attention", "some"), ("stop", ("",)),
    ],
)  # fmt: skip
def test_bad_settings_name_the_field(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


def test_seed_decides_whatever_else_runs() -> None:
    settings = Settings(max_new_tokens=30, temperature=1.0, seed=3)
    alone = generate(Engine(ScriptedBackend()), prompt="abc", settings=settings).result()
    shared = Engine(ScriptedBackend())
    other = generate(shared, prompt="xyz", settings=Settings(max_new_tokens=30, temperature=1.3))
    mine = generate(shared, prompt="abc", settings=settings)
    for _ in zip(other, mine, strict=False):
        np.random.random()
    mine.result()
    assert mine.trace.ids.tolist() == alone.ids.tolist()
    assert np.isfinite(alone.column("logprob_sampled")[alone.n_prompt :]).all()
    different = Settings(max_new_tokens=30, temperature=1.0, seed=4)
    again = generate(shared, prompt="abc", settings=different).result()
    assert again.ids.tolist() != alone.ids.tolist()


def test_fork_reuses_ids_and_state() -> None:
    backend = ScriptedBackend()
    host = Engine(backend)
    trace = generate(host, prompt="abcdef", settings=Settings(max_new_tokens=40)).result()
    before = backend.fed
    at = len(trace) - 3
    branch = fork(host, trace, at, 65, Settings(max_new_tokens=1)).result()
    assert backend.fed - before == 2  # the token before, and the one that was put in
    assert branch.ids[:at].tolist() == trace.ids[:at].tolist()
    assert branch.origin.edits[-1].to_json() == {
        "kind": "force", "at": at, "ids": (65,), "was": int(trace.ids[at]),
    }  # fmt: skip
    for name in ("logprob", "entropy", "rank"):
        assert (branch.column(name)[1:at] == trace.column(name)[1:at]).all()
    want = log_softmax(hashed(trace.ids[:at].tolist()))
    assert abs(branch.column("logprob")[at] - want[65]) < 1e-5
    assert abs(branch.column("entropy")[at] - trace.column("entropy")[at]) < 1e-5


def test_fork_by_text_prompt_token_and_continue() -> None:
    host = engine("hello world, hello all")
    trace = generate(host, prompt="hello", settings=Settings(max_new_tokens=6)).result()
    text = fork(host, trace, 6, "there", Settings(max_new_tokens=2)).result()
    assert text.text.startswith("hello there")
    assert text.n_prompt == 5
    inside = fork(host, trace, 2, "y", Settings(max_new_tokens=2)).result()
    assert inside.text.startswith("hey")
    assert inside.n_prompt == 3
    more = fork(host, trace, len(trace), "", Settings(max_new_tokens=5)).result()
    assert more.text == "hello world, hel"
    assert not more.origin.edits
    first = fork(host, trace, 0, "j", Settings(max_new_tokens=1)).result()
    assert first.text.startswith("j")
    assert np.isnan(first.column("logprob")[0])


@pytest.mark.parametrize("kind", ["crop", "copy", "none"])
def test_fork_is_right_for_every_kind_of_memory(kind: str) -> None:
    host = Engine(ScriptedBackend(fork=kind))  # type: ignore[arg-type]
    trace = generate(host, prompt="some words", settings=Settings(max_new_tokens=20)).result()
    branch = fork(host, trace, 15, 66, Settings(max_new_tokens=6)).result()
    fresh = Engine(ScriptedBackend(fork=kind))  # type: ignore[arg-type]
    again = fork(fresh, trace, 15, 66, Settings(max_new_tokens=6)).result()
    assert branch.ids.tolist() == again.ids.tolist()
    for name in ("logprob", "entropy", "perplexity"):
        assert np.allclose(branch.column(name), again.column(name), equal_nan=True)


def test_same_prompt_again_measures_nothing_twice() -> None:
    backend = ScriptedBackend()
    host = Engine(backend)
    one = generate(host, prompt="a prompt", settings=Settings(max_new_tokens=4)).result()
    fed = backend.fed
    two = generate(host, prompt="a prompt", settings=Settings(max_new_tokens=4)).result()
    assert backend.fed - fed <= 5
    assert two.ids.tolist() == one.ids.tolist()
    assert np.allclose(two.column("logprob"), one.column("logprob"), equal_nan=True)


@pytest.mark.parametrize("form", ["top", "full"])
def test_attention_records(form: str) -> None:
    host = Engine(ScriptedBackend(layers=3, heads=2))
    settings = Settings(max_new_tokens=30, attention=form)  # type: ignore[arg-type]
    trace = generate(host, prompt="some prompt", settings=settings).result()
    assert trace.attention is not None
    assert trace.attention.first == trace.n_prompt
    assert trace.attention.count == len(trace) - trace.n_prompt
    for t in range(trace.n_prompt, len(trace)):
        exact = (np.arange(t) + 2.0) / (np.arange(t) + 2.0).sum()  # head 1 of the script
        row = trace.attention.row(2, 1, t)
        kept = row > 0
        assert np.abs(row - exact)[kept].max() < 1e-3
        assert abs(row.sum() + trace.attention.unrecorded(2, 1, t) - 1.0) < 5e-3
        assert kept.sum() == (t if form == "full" else min(t, 17))
    branch = fork(host, trace, 20, 70, Settings(max_new_tokens=5, attention=form)).result()  # type: ignore[arg-type]
    assert branch.attention is not None
    assert branch.attention.first == trace.n_prompt
    assert branch.attention.count == len(branch) - trace.n_prompt
    dense, source = attention_rows(host, branch, 22)
    assert source == ("full" if form == "full" else "recomputed")
    assert np.abs(dense[2, 1].sum() - 1.0) < 2e-3
    forward, _ = attention_rows(host, branch, 18)
    reverse, _ = attended_by(host, branch, 4, 1, "mean")
    assert abs(reverse[18] - forward[1, :, 4].mean()) < 1e-3
    assert np.isnan(reverse[:5]).all()


def test_cancel_ends_within_one_step_and_keeps_what_was_made() -> None:
    run = generate(engine(), prompt="hello", settings=Settings(max_new_tokens=50))
    for step in run:
        if step.end == 8:
            run.cancel()
    assert run.finish == "cancelled"
    assert run.trace.text == "hello wo"


def test_score_covers_everything() -> None:
    trace = score(engine(), "hello world").result()
    assert trace.finish == "scored"
    assert trace.n_prompt == len(trace) == 11
    assert np.isfinite(trace.column("perplexity")[1:]).all()
    total = np.exp(trace.column("surprisal")[1:].astype(np.float64).mean())
    assert abs(trace.column("perplexity")[-1] / total - 1) < 1e-5


def test_long_prompts_go_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenscope.decode.machine.LOGIT_BYTES", 4 * 257 * 16)
    chunked = score(Engine(ScriptedBackend()), "x" * 100).result()
    monkeypatch.undo()
    whole = score(Engine(ScriptedBackend()), "x" * 100).result()
    for name in ("logprob", "entropy", "perplexity", "rank"):
        assert np.allclose(chunked.column(name), whole.column(name), equal_nan=True)


def test_end_token_is_shown_not_written() -> None:
    trace = generate(engine("ab"), prompt="a", settings=Settings()).result()
    assert trace.ids.tolist()[-1] == END
    assert trace.text == "ab"
    assert trace.generated == "b"


@pytest.mark.parametrize("form", ["top", "full", "none"])
def test_a_branch_by_an_alternative_feeds_one_token(form: str) -> None:
    backend = ScriptedBackend()
    host = Engine(backend)
    settings = Settings(max_new_tokens=30, attention=form)  # type: ignore[arg-type]
    trace = generate(host, prompt="abcdef", settings=settings).result()
    at = trace.n_prompt + 5
    assert trace.alternatives is not None
    token = int(trace.alternatives.ids[at][3])
    before = backend.fed
    more = Settings(max_new_tokens=6, attention=form)  # type: ignore[arg-type]
    branch = fork(host, trace, at, token, more).result()
    assert backend.fed - before == 6  # the alternative and five of the six that followed
    long_way = Engine(ScriptedBackend())
    for name in ("shared", "nothing"):
        other = trace if name == "nothing" else trace.cut(at)
        again = fork(long_way, other, at, token, more).result()
        assert again.ids.tolist() == branch.ids.tolist()
        for column in branch.columns:
            if column != "time_ms":
                got, want = branch.column(column), again.column(column)
                assert np.allclose(got, want, equal_nan=True, atol=1e-5), column
    if form != "none":
        assert branch.attention is not None
        assert again.attention is not None
        assert branch.attention.count == again.attention.count == len(branch) - trace.n_prompt
        for t in range(trace.n_prompt, len(branch)):
            assert np.array_equal(branch.attention.block(t), again.attention.block(t))
