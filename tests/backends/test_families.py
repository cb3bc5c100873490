"""Every family against independent oracles: transformers' eager attentions, float64 columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tokenscope.backends.protocol import Feed
from tokenscope.runs.generate import Settings, fork, generate, score
from tokenscope.runs.model import Model

TEXT = "def parse(line, sep=','):\n    return [part.strip() for part in line.split(sep)]\n"


def eager(model: Model, ids: list[int], dtype: torch.dtype = torch.float32) -> Any:
    """One full forward of a fresh copy with eager attention."""
    fresh = AutoModelForCausalLM.from_pretrained(
        model.path, dtype=dtype, attn_implementation="eager"
    ).eval()
    fresh.config._experts_implementation = "eager"  # the grouped kernel has no float64
    with torch.no_grad():
        return fresh(torch.tensor([ids]), output_attentions=True, use_cache=False)


def reference(logits: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """All columns in float64 from the logits of one full forward, by other formulas than ours."""
    z = logits[:-1].astype(np.float64)
    x = ids[1:]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    mine = p[np.arange(len(x)), x]
    info = -np.log(np.maximum(p, 1e-300))
    mean = (p * info).sum(axis=1)
    ordered = np.sort(p, axis=1)[:, ::-1]
    return {
        "logprob": np.log(mine),
        "surprisal": -np.log(mine),
        "probability": mine,
        "rank": 1.0 + (z > z[np.arange(len(x)), x][:, None]).sum(axis=1),
        "entropy": mean,
        "varentropy": (p * info**2).sum(axis=1) - mean**2,
        "margin": ordered[:, 0] - ordered[:, 1],
        "p_ratio": mine / ordered[:, 0],
    }


@pytest.fixture(params=["prefill", "steps"])
def fed(request: pytest.FixtureRequest, family: Model) -> tuple[Model, list[int], Any]:
    """Rows of all queries, from one prefill or from a prefill and one-token steps."""
    ids = [int(i) for i in family.backend.encode(TEXT).ids]
    state = family.backend.start()
    if request.param == "prefill":
        out = family.backend.extend(Feed(state, ids, rows=len(ids)))
        rows = [[layer[:, t] for layer in out.attention] for t in range(len(ids))]
    else:
        family.backend.extend(Feed(state, ids[:9]))
        rows = [None] * 9
        for i in ids[9:]:
            out = family.backend.extend(Feed(state, [i], rows=1))
            rows.append([layer[:, 0] for layer in out.attention])
    return family, ids, rows


def test_rows_equal_eager_attentions(fed: tuple[Model, list[int], Any]) -> None:
    model, ids, rows = fed
    want = eager(model, ids).attentions
    assert model.info.attention_layers == tuple(range(len(want)))
    for t, row in enumerate(rows):
        for layer, weights in enumerate(row or ()):
            assert weights[:, : t + 1].sub(want[layer][0, :, t, : t + 1]).abs().max() <= 1e-5
            assert not weights[:, t + 1 :].any()


def test_columns_equal_float64_reference(family: Model) -> None:
    run = generate(family, prompt=TEXT, settings=Settings(max_new_tokens=24, attention="full"))
    trace = run.result()
    out = eager(family, trace.ids.tolist(), torch.float64)
    want = reference(out.logits[0].numpy(), trace.ids)
    for name, values in want.items():
        got = trace.column(name).astype(np.float64)
        assert np.isnan(got[0])
        if name == "rank":  # a tie at rounding may move a rank by one
            assert (np.abs(got[1:] - values) <= 1).all()
            continue
        assert np.abs(got[1:] - values).max() <= 1e-4, name
    perplexity = np.exp(np.cumsum(want["surprisal"][trace.n_prompt - 1 :])
                        / np.arange(1, len(trace) - trace.n_prompt + 1))  # fmt: skip
    assert np.allclose(trace.column("perplexity")[trace.n_prompt :], perplexity, rtol=1e-4)
    assert np.isnan(trace.column("perplexity")[: trace.n_prompt]).all()
    assert trace.attention is not None
    for t in range(trace.attention.first, len(trace)):  # stored as float16
        for layer in range(len(out.attentions)):
            for head in range(family.info.heads):
                row = trace.attention.row(layer, head, t)
                exact = out.attentions[layer][0, head, t - 1, :t].numpy()
                assert np.abs(row - exact).max() <= 6e-4


def test_alternatives_are_the_top_of_the_distribution(family: Model) -> None:
    trace = generate(family, prompt=TEXT, settings=Settings(max_new_tokens=8)).result()
    logits = eager(family, trace.ids.tolist(), torch.float64).logits[0]
    want = torch.log_softmax(logits, dim=-1)
    assert trace.alternatives is not None
    assert (trace.alternatives.ids[0] == -1).all()
    for t in range(1, len(trace)):
        top = want[t - 1].topk(10)
        assert np.abs(trace.alternatives.logprobs[t] - top.values.numpy()).max() <= 1e-4
        own = want[t - 1][torch.from_numpy(trace.alternatives.ids[t].astype(np.int64))]
        assert np.abs(own.numpy() - trace.alternatives.logprobs[t]).max() <= 1e-4


def test_greedy_ids_equal_plain_generate(family: Model) -> None:
    trace = generate(family, prompt=TEXT, settings=Settings(max_new_tokens=16)).result()
    plain = AutoModelForCausalLM.from_pretrained(family.path, dtype=torch.float32).eval()
    feed = torch.from_numpy(trace.ids[: trace.n_prompt].astype(np.int64))[None]
    out = plain.generate(feed, max_new_tokens=16, do_sample=False, pad_token_id=0)[0].tolist()
    assert trace.ids.tolist() == out


def test_a_fork_equals_a_fresh_decoding(family: Model) -> None:
    trace = generate(family, prompt=TEXT, settings=Settings(max_new_tokens=16)).result()
    at = trace.n_prompt + 5
    assert trace.alternatives is not None
    token = int(trace.alternatives.ids[at][1])
    branch = fork(family, trace, at, token, Settings(max_new_tokens=8)).result()
    assert branch.ids[:at].tolist() == trace.ids[:at].tolist()
    assert branch.ids[at] == token
    family.prefixes.clear()
    again = score(family, branch.text).result()
    if again.ids.tolist() == branch.ids.tolist():  # the text tokenises back to the same ids
        for name in ("logprob", "entropy", "margin"):
            assert np.nanmax(np.abs(again.column(name) - branch.column(name))) <= 1e-4
    logits = eager(family, branch.ids.tolist(), torch.float64).logits[0].numpy()
    want = reference(logits, branch.ids)["logprob"]
    assert np.abs(branch.column("logprob")[1:] - want).max() <= 1e-4
