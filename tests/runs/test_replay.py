"""A trace is made again from its origin: over many random runs, and what is said when it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.cli import run as command
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, MissingError
from tokenscope.runs.generate import Settings, fork, generate, score
from tokenscope.runs.model import Model
from tokenscope.runs.replay import replay
from tokenscope.trace import Trace
from tokenscope.trace.edits import Ban, Bias, UnknownEdit

PIECES = ["def f(x):\n", "    return x\n", "for i in range(3):\n    print(i)\n", "x = [1, 2]\n"]


def repeating(ids: list[int]) -> np.ndarray:
    """A script that repeats itself after eight tokens, most of the time: proposals are taken."""
    logits = hashed(ids) * np.float32(0.4)
    if len(ids) > 8:
        logits[ids[-8]] += 5.0
    return logits


def random_settings(rng: np.random.Generator, size: int, most: int) -> Settings:
    edits: list[object] = []
    if rng.random() < 0.3:
        edits.append(Ban(tuple(int(i) for i in rng.integers(0, size, 3))))
    if rng.random() < 0.2:
        edits.append(Bias((int(rng.integers(0, size)),), float(rng.normal(0, 3))))
    hot = rng.random() < 0.6
    return Settings(
        max_new_tokens=int(rng.integers(1, most)), temperature=float(rng.choice([0.5, 1.0])) * hot,
        top_k=int(rng.choice([0, 5, 40])), top_p=float(rng.choice([1.0, 0.9])),
        min_p=float(rng.choice([0.0, 0.05])),
        repetition_penalty=float(rng.choice([1.0, 1.0, 1.3])), seed=int(rng.integers(0, 1 << 30)),
        stop=("\n\n",) if rng.random() < 0.2 else (), alternatives=int(rng.choice([0, 5, 10])),
        attention=str(rng.choice(["none", "top", "full"])),  # type: ignore[arg-type]
        edits=tuple(edits),  # type: ignore[arg-type]
        speculate=str(rng.choice(["auto", "none"])),  # type: ignore[arg-type]
    )  # fmt: skip


def random_trace(engine: Engine, rng: np.random.Generator, most: int) -> Trace:
    """A prompt, infill or scored text, then up to three forks, anywhere."""
    text = "".join(rng.choice(PIECES, rng.integers(1, 4)))
    kind = rng.random()
    size = engine.info.vocab or 257
    if kind < 0.1:
        return score(engine, text, alternatives=5).result()
    settings = random_settings(rng, size, most)
    if kind < 0.25 and engine.abilities.infill:
        trace = generate(engine, prompt=text, suffix="\nprint(x)\n", settings=settings).result()
    else:
        run = generate(engine, prompt=text, settings=settings)
        for n, _ in enumerate(run):
            if kind > 0.95 and n == 3:
                run.cancel()
        trace = run.trace
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(1, len(trace) + 1))
        token: object = [
            "", int(rng.integers(0, 200)), "y = ", [int(i) for i in rng.integers(0, 200, 3)]
        ][rng.integers(0, 4)]  # fmt: skip
        settings = random_settings(rng, size, most)
        if rng.random() < 0.1:
            settings = replace(settings, max_new_tokens=0)
        trace = fork(engine, trace, at, token, settings).result()  # type: ignore[arg-type]
    return trace


def check(engine: Engine, trace: Trace, other: Engine | None = None) -> None:
    found = replay(other or engine, trace)
    assert found.same, (found.reasons, trace.origin)
    assert found.trace.ids.tolist() == trace.ids.tolist()
    assert found.trace.finish == trace.finish or trace.finish in ("cancelled", "error")
    assert found.trace.n_prompt == trace.n_prompt


@pytest.mark.parametrize("seed", range(160))
def test_random_runs_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    script = repeating if seed % 2 else hashed
    backend = ScriptedBackend(script, fork="copy" if seed % 5 == 0 else "crop")  # type: ignore[arg-type]
    trace = random_trace(Engine(backend), rng, 24)
    check(Engine(backend), trace, Engine(ScriptedBackend(script)))  # type: ignore[arg-type]


def test_random_runs_of_a_real_network_come_back(bundled: Model) -> None:
    for seed in range(40):
        check(bundled, random_trace(bundled, np.random.default_rng(1000 + seed), 10))


def test_a_chat_comes_back(real: Model) -> None:
    told = [{"role": "user", "content": "Say hi."}]
    trace = real.chat(told, max_new_tokens=4, temperature=0.7, seed=4)
    assert trace.origin.request.messages == tuple(told)
    assert len(trace.origin.request.template_digest) == 64
    check(real, trace)


def test_what_differs_is_said() -> None:
    host = Engine(ScriptedBackend())
    trace = generate(host, prompt="abc", settings=Settings(max_new_tokens=8)).result()
    other = Engine(ScriptedBackend(lambda ids: hashed([*ids, 1])))
    found = replay(other, trace)
    assert not found.same and found.differs_at == 3
    assert any(r.startswith("token 3 is") for r in found.reasons)
    assert json.loads(json.dumps(found.to_json()))["same"] is False
    near = Engine(ScriptedBackend(lambda ids: hashed(ids) * np.float32(1.0001)))
    found = replay(near, trace)
    assert found.differs_at is None and not found.same
    assert any(r.startswith("entropy differs by") for r in found.reasons)
    moved = replace(trace, origin=replace(trace.origin, dtype="bfloat16"))
    assert "dtype was bfloat16, is float32" in replay(near, moved).reasons
    with pytest.raises(MissingError, match="was made by"):
        replay(host, replace(trace, origin=replace(trace.origin, model_digest="0" * 64)))
    segment = replace(trace.origin.segments[0], edits=(UnknownEdit("steer", {"layer": 3}),))
    with pytest.raises(AbilityError, match="steer"):
        replay(host, replace(trace, origin=replace(trace.origin, segments=(segment,))))


def test_the_command(bundled: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = bundled.generate("def f(", max_new_tokens=6, temperature=0.8, seed=2)
    path = str(trace.save(tmp_path / "a.trace"))
    assert command(["replay", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    other = trace.with_column("entropy", trace.column("entropy") + np.float32(0.01))
    assert command(["replay", str(other.save(tmp_path / "b.trace"))]) == 1
    assert "entropy differs" in capsys.readouterr().err
    (tmp_path / "c.trace").write_bytes(b"no trace")
    assert command(["replay", str(tmp_path / "c.trace"), "--json"]) == 2
    gone = replace(trace, origin=replace(trace.origin, model_digest="0" * 64))
    assert command(["replay", str(gone.save(tmp_path / "d.trace"))]) == 3
