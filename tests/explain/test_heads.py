"""The explorer against transformers' eager attentions and formulas written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.conftest import IDS
from tokenscope.backends.hf import attention_kernel
from tokenscope.backends.hf.internals import Internals
from tokenscope.errors import CapacityError, InputError, UnknownName
from tokenscope.explain.attention import layout, rollout, window
from tokenscope.explain.heads import Names, find_edge, find_heads, survey


def eager(model: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    """(L, H, T, T) from transformers alone."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    return np.stack([a[0].numpy() for a in out.attentions])


@pytest.fixture(params=[1 << 25, 700], ids=["whole", "blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in one block, once in blocks of a row or two."""
    monkeypatch.setattr(attention_kernel, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("blocks")
def test_windows_equal_eager(model: Any, internals: Internals) -> None:
    wanted = eager(model, IDS)
    assert np.abs(window(internals, IDS, 1, 2) - wanted[1, 2]).max() <= 1e-5
    part = window(internals, IDS, 2, "max", (4, 9), (2, 7))
    assert np.abs(part - wanted[2].max(0)[4:9, 2:7]).max() <= 1e-5
    mean = window(internals, IDS, 0, "mean")
    assert np.abs(mean - wanted[0].mean(0)).max() <= 1e-5


@pytest.mark.usefixtures("blocks")
def test_rollout_equals_its_formula(model: Any, internals: Internals) -> None:
    state = np.eye(len(IDS))
    for a in eager(model, IDS):
        mixed = a.mean(0) + np.eye(len(IDS))
        state = mixed / mixed.sum(-1, keepdims=True) @ state
    made = rollout(internals, IDS)
    assert np.abs(made - state).max() <= 1e-5
    assert np.abs(made.sum(-1) - 1).max() <= 1e-5


def test_norm_weighting_is_the_norm_of_what_is_written(llama: Internals) -> None:
    attention = llama.anatomy.layers[1].attention
    seen: list[torch.Tensor] = []
    handle = attention.v_proj.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
    a = window(llama, IDS, 1, 3)
    handle.remove()
    values = seen[0].reshape(len(IDS), 2, 8)[:, 1]  # head 3 reads group 1 of 2
    written = values @ attention.o_proj.weight[:, 24:32].T
    wanted = np.abs(a[:, :, None] * written.detach().numpy()[None]) ** 2
    made = window(llama, IDS, 1, 3, weighting="norm")
    assert np.abs(made - np.sqrt(wanted.sum(-1))).max() <= 1e-5


@pytest.mark.usefixtures("blocks")
def test_statistics_equal_formulas_by_hand(model: Any, internals: Internals) -> None:
    name = np.full(len(IDS), -1, dtype=np.int32)
    name[[1, 2, 10]] = 0
    place = np.arange(len(IDS), dtype=np.int32)
    place[2] = 1  # tokens 1 and 2 are one occurrence
    made = survey(internals, IDS, Names(name, place), size=5)
    a, n = eager(model, IDS).astype(np.float64), len(IDS)
    q, k = np.arange(n)[:, None], np.arange(n)[None]
    inside = k <= q
    safe = np.where(inside & (a > 0), a, 1.0)
    want = {
        "entropy": -(safe * np.log(safe)).sum(-1).mean(-1),
        "distance": (a * (q - k)).sum(-1).mean(-1),
        "sink": a[:, :, 1:, 0].mean(-1),
        "unread": (1 - a.sum(-1)).mean(-1),
        "previous": np.stack([a[:, :, i, i - 1] for i in range(1, n)]).mean(0),
        "itself": np.stack([a[:, :, i, i] for i in range(1, n)]).mean(0),
        "identifier": a[:, :, 10, [1, 2]].sum(-1),
    }
    hits = [(i, [j for j in range(1, i + 1) if IDS[j - 1] == IDS[i]]) for i in range(n)]
    hits = [(i, js) for i, js in hits if js]
    want["induction"] = np.stack([a[:, :, i, js].sum(-1) for i, js in hits]).mean(0)
    for key, value in want.items():
        assert np.abs(made.statistics[key] - value).max() <= 1e-5, key
    assert made.counts["identifier"] == 1 and made.counts["induction"] == len(hits)
    assert made.pictures.shape == (len(a), 4, 5, 5) and made.cell == 3
    assert made.pictures[1, 2, 4, 0] == pytest.approx(a[1, 2, 12:, :3].max(), abs=1e-5)


def test_an_induction_head_is_found() -> None:
    """A hand-made copy of the search: the head that puts most mass where it should."""
    from tests.explain.conftest import build

    internals = Internals(build("llama"))
    random = torch.randint(0, 97, (20,), generator=torch.Generator().manual_seed(3)).tolist()
    made = survey(internals, random + random)
    best = find_heads(made, "induction", 3)
    scores = [f.score for f in best]
    assert scores == sorted(scores, reverse=True)
    assert best[0].score == pytest.approx(float(made.statistics["induction"].max()))
    with pytest.raises(UnknownName, match="induction"):
        find_heads(made, "sniffing")


def test_edges_are_searched(model: Any, internals: Internals) -> None:
    found = find_edge(internals, IDS, 9, [2, 3], top=3)
    mass = eager(model, IDS)[:, :, 9, 2:4].sum(-1)
    assert found[0].score == pytest.approx(float(mass.max()), abs=1e-5)
    assert mass[found[1].layer, found[1].head] == pytest.approx(found[1].score, abs=1e-5)
    with pytest.raises(InputError, match="keys"):
        find_edge(internals, IDS, 3, [4])


def test_too_much_is_refused_before_allocation(llama: Internals) -> None:
    ids = [1] * 4000
    with pytest.raises(CapacityError) as error:
        rollout(llama, ids, limit=160 << 20)
    fits = error.value.fits
    assert fits is not None and 1000 < fits < 4000
    assert f"{fits} tokens would fit" in str(error.value)


def test_layout_says_what_each_layer_is(internals: Internals) -> None:
    name = type(internals.model).__name__
    layers = layout(internals)
    assert all(item.attention and item.heads == 4 for item in layers)
    assert any(item.window for item in layers) == (name.startswith(("Gemma2", "GptOss")))
    assert all(item.sinks == name.startswith("GptOss") for item in layers)


def test_hybrid_layers_without_attention_are_shown_as_such() -> None:
    import transformers as hf

    torch.manual_seed(0)
    config = hf.Lfm2Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, block_auto_adjust_ff_dim=False,
        layer_types=["conv", "full_attention", "conv"],
    )  # fmt: skip
    internals = Internals(hf.Lfm2ForCausalLM(config).eval())
    assert internals.anatomy.attention_layers == (1,)
    assert [item.attention for item in layout(internals)] == [False, True, False]
    assert survey(internals, IDS).layers == (1,)
    with pytest.raises(Exception, match="layer 0 has no attention"):
        window(internals, IDS, 0, 0)
