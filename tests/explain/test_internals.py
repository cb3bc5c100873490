"""Capture, patches and resumed prefixes against the plain model and hand-made hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch

from tests.explain.conftest import IDS
from tokenscope.backends.hf.attention_kernel import Edge
from tokenscope.backends.hf.internals import HeadPatch, Internals, MlpPatch
from tokenscope.errors import AbilityError, InputError


def plain_logits(model: Any, ids: list[int]) -> torch.Tensor:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()


@contextmanager
def double(model: Any) -> Iterator[None]:
    """In float64, so that what differs is the maths and not the order of a sum.

    The families' eager softmax rounds to float32 whatever it is given: here it must not.
    """
    softmax = torch.nn.functional.softmax

    def exact(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None, **_: Any) -> Any:
        return softmax(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    model.double()
    with mock.patch.object(torch.nn.functional, "softmax", exact):
        yield
    model.float()


def test_logits_are_the_models_own(model: Any, internals: Internals) -> None:
    with torch.no_grad():
        made = internals.logits(internals.embed(IDS))[0]
    assert torch.allclose(made, plain_logits(model, IDS), atol=1e-5)


def test_residual_stream_adds_up(internals: Internals) -> None:
    seen = internals.capture(IDS)
    for i in range(len(internals.anatomy.layers)):
        made = seen.residual[i] + seen.attention[i] + seen.mlp[i]
        assert torch.allclose(made, seen.residual[i + 1], atol=1e-5)


def test_heads_add_up_to_the_attention_output(internals: Internals) -> None:
    seen = internals.capture(IDS)
    for part, heads, whole in zip(
        internals.anatomy.layers, seen.heads, seen.raw_attention, strict=True
    ):
        assert heads is not None
        made = torch.einsum("hk,hkd->d", heads, part.head_matrices())
        bias = part.out_bias()
        made = made + (bias if bias is not None else 0)
        assert torch.allclose(made, whole, atol=1e-5)


def test_eager_attentions(model: Any, internals: Internals) -> None:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = model(torch.tensor([IDS]), output_attentions=True, use_cache=False).attentions
    got = {i: torch.zeros(a.shape[1:]) for i, a in enumerate(wanted)}

    def watch(layer: int, first: int, weights: torch.Tensor, _values: torch.Tensor) -> None:
        got[layer][:, first : first + weights.shape[2]] = weights[0]

    internals.watch(IDS, watch)
    for i, a in enumerate(wanted):
        assert (got[i] - a[0]).abs().max() <= 1e-5
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_head_ablation_equals_hand_made_hooks(model: Any, internals: Internals, how: str) -> None:
    part = internals.anatomy.layers[1]
    span = slice(2 * part.head_dim, 3 * part.head_dim)

    def hook(_m: Any, args: Any) -> Any:
        x = args[0].clone()
        x[..., span] = x[..., span].mean(1, keepdim=True) if how == "mean" else 0.0
        return (x,)

    with double(model):
        handle = part.out.register_forward_pre_hook(hook)
        wanted = plain_logits(model, IDS)
        handle.remove()
        batch = internals.embed(IDS).expand(2, -1, -1)
        with torch.no_grad():
            made = internals.logits(batch, [(1, HeadPatch(1, 2, how))])
        assert (made[1] - wanted).abs().max() <= 1e-6
        assert (made[0] - plain_logits(model, IDS)).abs().max() <= 1e-6


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_mlp_ablation_equals_hand_made_hooks(model: Any, internals: Internals, how: str) -> None:
    def hook(_m: Any, _a: Any, out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        x = x.mean(1, keepdim=True).expand_as(x) if how == "mean" else torch.zeros_like(x)
        return (x, out[1]) if isinstance(out, tuple) else x

    with double(model):
        handle = internals.anatomy.layers[0].mlp.register_forward_hook(hook)
        wanted = plain_logits(model, IDS)
        handle.remove()
        with torch.no_grad():
            made = internals.logits(internals.embed(IDS), [(None, MlpPatch(0, how))])[0]
        assert (made - wanted).abs().max() <= 1e-6


def test_resume_equals_a_whole_run(internals: Internals) -> None:
    embeds = internals.embed(IDS)
    cache = internals.prefix(embeds)
    with torch.no_grad():
        whole = internals.logits(embeds)[0]
    for length in (0, 3, len(IDS) - 1):
        part = internals.resume(cache, length, embeds[:, length:].expand(2, -1, -1))
        assert (part - whole).abs().max() <= 1e-5


@pytest.mark.parametrize("how", ["cut", "zero"])
def test_edges_in_a_resumed_step_equal_those_of_a_whole_run(internals: Internals, how: str) -> None:
    embeds = internals.embed(IDS)
    q = len(IDS) - 1
    edge = Edge(q, q - 3, None, None, how)
    with torch.no_grad():
        whole = internals.logits(embeds, [(None, edge)])[0]
    part = internals.resume(internals.prefix(embeds), q, embeds[:, q:], [(0, edge)])[0]
    assert (part - whole).abs().max() <= 1e-5
    assert (whole - internals.logits(embeds)[0]).abs().max() > 1e-4


def test_an_edge_equals_a_hand_made_mask(llama: Internals) -> None:
    """Cutting key k for all queries of all layers is what a padding mask at k does."""
    embeds = llama.embed(IDS)
    edges = [(None, Edge(q, 4)) for q in range(len(IDS))]
    with torch.no_grad():
        made = llama.logits(embeds, edges)[0]
        mask = torch.ones(1, len(IDS))
        mask[0, 4] = 0
        llama.model.set_attn_implementation("eager")
        wanted = llama.model(
            inputs_embeds=embeds, attention_mask=mask, use_cache=False,
            position_ids=torch.arange(len(IDS))[None],
        ).logits[0, -1]  # fmt: skip
    assert (made - wanted).abs().max() <= 1e-5


def test_what_cannot_be_mapped_is_refused() -> None:
    import transformers as hf

    bloom = hf.BloomForCausalLM(hf.BloomConfig(vocab_size=20, hidden_size=16, n_layer=1, n_head=2))
    bloom.transformer.ln_f = None
    with pytest.raises(AbilityError, match="final norm"):
        Internals(bloom)


def test_bad_patches_name_the_field(llama: Internals) -> None:
    for patch in (HeadPatch(9, 0), HeadPatch(0, 9), MlpPatch(-1)):
        with pytest.raises(InputError):
            llama.logits(llama.embed(IDS), [(None, patch)])
