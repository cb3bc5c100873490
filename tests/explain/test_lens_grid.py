"""The lens at every position against the one at the last, and a tuned lens that must do better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.conftest import IDS
from tests.explain.test_internals import double
from tokenscope.backends.hf.internals import Internals
from tokenscope.control import Cancelled, Control
from tokenscope.errors import CapacityError, InputError, ModelError
from tokenscope.explain import lens_grid as grids
from tokenscope.explain.lens import logit_lens
from tokenscope.explain.lens_grid import lens_grid, next_logprobs
from tokenscope.explain.target import Target, ask
from tokenscope.explain.tuned_lens import Fitting, TunedLens, read_lens


def test_every_cell_equals_transformers_hidden_states(
    model: Any, internals: Internals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "CHUNK_BYTES", 4 * internals.embedding_weight.shape[0] * 4)
    with double(model):
        made = lens_grid(internals, IDS)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            out = model(torch.tensor([IDS]), output_hidden_states=True, use_cache=False)
            final = torch.log_softmax(out.logits[0], -1)
            # transformers' last hidden state is behind the final norm: the others stand before it
            h = torch.stack([x[0] for x in out.hidden_states[:-1]])
            logits = internals.anatomy.head(internals.anatomy.norm(h))
            cap = internals.anatomy.softcap
            logits = torch.tanh(logits / cap) * cap if cap else logits
            logp = torch.log_softmax(logits, -1)
        for t in range(1, len(IDS)):
            assert abs(made.logprob[-1, t] - float(final[t - 1, IDS[t]])) <= 2e-6
            assert made.rank[-1, t] == 1 + int((final[t - 1] > final[t - 1, IDS[t]]).sum())
            for i in range(len(h)):
                assert abs(made.logprob[i, t] - float(logp[i, t - 1, IDS[t]])) <= 2e-6
                assert made.top[i, t] == int(logp[i, t - 1].argmax())
                kl = float((final[t - 1].exp() * (final[t - 1] - logp[i, t - 1])).sum())
                assert made.kl[i, t] == pytest.approx(kl, abs=1e-6, rel=1e-6)
    assert np.all(made.kl[-1, 1:] == 0) and np.all(made.top[:, 0] == -1)
    assert np.isnan(made.logprob[:, 0]).all() and np.all(made.rank[:, 0] == 0)


def test_the_last_column_is_the_lens_of_before(internals: Internals) -> None:
    made = lens_grid(internals, IDS)
    old = logit_lens(ask(internals, IDS, Target(len(IDS) - 1, IDS[-1])))
    assert np.abs(made.logprob[:, -1] - old.a).max() <= 1e-4
    assert np.array_equal(made.top[:, -1], old.ids[:, 0])
    assert np.allclose(next_logprobs(internals, IDS)[1:], made.logprob[-1, 1:], atol=1e-6)


def text(seed: int, count: int) -> list[int]:
    """Ids of a small language: each is one of three that may follow the one before."""
    random, made = np.random.default_rng(seed), [3]
    while len(made) < count:
        made.append(int((made[-1] * 5 + random.integers(0, 3) * 7) % 90) + 1)
    return made


def fitted(internals: Internals, **options: Any) -> TunedLens:
    options = {"steps": 60, "batch": 64, "rate": 3e-3, "window": 64, **options}
    return Fitting(internals, [text(0, 1500)], "digest", **options).run()


def test_a_tuned_lens_is_nearer_to_the_model_on_held_out_text(internals: Internals) -> None:
    if internals.embedding_weight.shape[0] > 200:
        pytest.skip("the bundled model has a test of its own")
    made = fitted(internals)
    assert made.held_out > 200 and made.fitted > 900
    assert np.all(made.tuned_kl < made.logit_kl), (made.tuned_kl, made.logit_kl)
    # on text that neither half came from, and by the grid instead of the fit's own measure
    fresh = text(5, 100)
    plain, tuned = lens_grid(internals, fresh), lens_grid(internals, fresh, made.translate)
    assert tuned.kl[:-1, 1:].mean() < plain.kl[:-1, 1:].mean()
    assert np.array_equal(tuned.logprob[-1, 1:], plain.logprob[-1, 1:])


def test_the_gradient_of_a_fit_is_that_of_the_formula(llama: Internals) -> None:
    job = Fitting(llama, [text(0, 600)], "d", batch=4)
    h = job._read(job.train)[:, :4]
    weight, bias = torch.zeros(3, 32, 32), torch.zeros(3, 32)
    weight.requires_grad_(), bias.requires_grad_()
    job._gradients(weight, bias, h)
    assert weight.grad is not None and bias.grad is not None

    def loss(b: torch.Tensor) -> float:
        with torch.no_grad():
            p, q = (grids.unembed(llama, x).double().log_softmax(-1) for x in (h[-1], h[1] + b))
            return float((p.exp() * (p - q)).sum(-1).mean())

    for k in (0, 7):
        step = torch.zeros(32)
        step[k] = 1e-2
        assert float(bias.grad[1, k]) == pytest.approx((loss(step) - loss(-step)) / 2e-2, abs=2e-3)
    assert all(p.grad is None for p in llama.model.parameters())


def test_a_lens_is_kept_and_read_for_its_own_model(llama: Internals, tmp_path: Path) -> None:
    seen: list[int] = []
    made = fitted(llama, steps=201, batch=4, keep=lambda part: seen.append(part.steps))
    assert seen == [100, 200]
    path = tmp_path / "lenses" / "a.safetensors"
    made.save(path)
    again = read_lens(path, llama, "digest")
    assert torch.equal(again.weight, made.weight) and again.held_out == made.held_out
    assert np.allclose(again.tuned_kl, made.tuned_kl) and [
        p.name for p in path.parent.iterdir()
    ] == [path.name]
    with pytest.raises(ModelError, match="another model"):
        read_lens(path, llama, "other")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="no tuned lens"):
        read_lens(path, llama, "digest")


def test_refusals(llama: Internals) -> None:
    with pytest.raises(InputError, match="two tokens"):
        lens_grid(llama, [5])
    with pytest.raises(CapacityError, match="would fit"):
        lens_grid(llama, IDS, limit=1000)
    with pytest.raises(InputError, match="too short"):
        Fitting(llama, [IDS], "d")
    with pytest.raises(Cancelled):
        Fitting(llama, [text(0, 600)], "d", control=Control(cancelled=lambda: True)).run()
