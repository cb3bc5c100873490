"""The lean step of every family that has one, against the family's own eager forward: few tokens,
many, several states at once, and across the end of a sliding window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from tests.families import COMMON, FAMILIES, randomise, save_folder
from tokenscope.backends.hf.backend import TransformersBackend
from tokenscope.backends.hf.lean import READERS, read
from tokenscope.backends.hf.load import load
from tokenscope.backends.protocol import Feed, Full

GQA: dict[str, Any] = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
WINDOW = 12
MADE: dict[str, Callable[[], Any]] = {
    "llama": FAMILIES["llama"], "qwen2": FAMILIES["qwen2"], "gpt2": FAMILIES["gpt2"],
    "mistral": lambda: hf.MistralForCausalLM(
        hf.MistralConfig(**GQA, head_dim=8, sliding_window=WINDOW)
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, head_dim=12)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**GQA, head_dim=16)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(
        **GQA, head_dim=8, query_pre_attn_scalar=11, sliding_window=WINDOW,
        attn_logit_softcapping=5.0, final_logit_softcapping=4.0,
    )),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**GQA, sliding_window=None)),
    "phi3 half": lambda: hf.Phi3ForCausalLM(
        hf.Phi3Config(**GQA, sliding_window=WINDOW, partial_rotary_factor=0.5)
    ),
    "starcoder2": lambda: hf.Starcoder2ForCausalLM(
        hf.Starcoder2Config(**GQA, sliding_window=WINDOW, use_bias=True)
    ),
    "gpt_neox": FAMILIES["gpt-neox"],
    "gpt_neox in line": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
        **COMMON, intermediate_size=48, use_parallel_residual=False, hidden_act="gelu_new",
    )),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(MADE))
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TransformersBackend:
    torch.manual_seed(1)
    model = randomise(MADE[request.param]())
    folder: Path = tmp_path_factory.mktemp("lean") / request.param
    return load(save_folder(model, folder), dtype="float32")


@pytest.fixture
def eager(backend: TransformersBackend) -> Callable[[list[int]], tuple[np.ndarray, list[Any]]]:
    fresh = hf.AutoModelForCausalLM.from_pretrained(
        backend.info.path, dtype=torch.float64, attn_implementation="eager"
    ).eval()

    def run(ids: list[int]) -> tuple[np.ndarray, list[Any]]:
        with torch.inference_mode():
            out = fresh(torch.tensor([ids]), output_attentions=True, use_cache=False)
        return out.logits[0].numpy(), [a[0].numpy() for a in out.attentions]

    return run


def test_every_family_of_the_table_is_tried_here() -> None:
    assert {name.split()[0] for name in MADE} == set(READERS)


def test_logits_and_rows_are_those_of_the_eager_forward(
    backend: TransformersBackend, eager: Callable[[list[int]], tuple[np.ndarray, list[Any]]]
) -> None:
    assert backend.compact is not None
    ids = [int(i) for i in np.random.default_rng(3).integers(0, 8192, 40)]
    logits, attentions = eager(ids)

    def feed(pieces: list[tuple[Any, int, int]]) -> None:
        found = backend.extend_many(
            [Feed(s, ids[a:b], rows=b - a, scores=b - a) for s, a, b in pieces]
        )
        for (_, a, b), out in zip(pieces, found, strict=True):
            assert isinstance(out.scores, Full)
            got = np.stack([np.asarray(out.scores.logits[n]) for n in range(b - a)])
            assert np.abs(got - logits[a:b]).max() <= 1e-4
            assert len(out.attention) == len(attentions)
            for layer, want in zip(out.attention, attentions, strict=True):
                assert np.abs(np.asarray(layer) - want[:, a:b, :b]).max() <= 1e-5

    one, two, three = (backend.start() for _ in range(3))
    feed([(one, 0, 1)])
    feed([(one, 1, 4), (two, 0, 5), (three, 0, 9)])  # a batch and one beside it
    branch = backend.fork(one, 3)
    feed([(branch, 3, 6), (two, 5, 6), (one, 4, 5), (three, 9, 11)])  # a shared block and tails
    feed([(three, 11, 31)])  # many tokens, across a window's end
    feed([(one, 5, 6), (three, 31, 32), (branch, 6, 7)])
    for t in range(32, 40):
        feed([(three, t, t + 1), (branch, t - 25, t - 24)])
    feed([(backend.start(), 0, 40)])


def test_the_step_knows_where_a_window_ends(backend: TransformersBackend) -> None:
    compact = backend.compact
    assert compact is not None
    windowed = bool(getattr(backend.model.config, "sliding_window", None))
    assert compact.limit == (WINDOW if windowed else None)
    assert compact.takes(0, WINDOW) and compact.takes(WINDOW, 1) != windowed


def test_what_the_step_does_not_know_has_none() -> None:
    odd = [
        hf.GPT2LMHeadModel(hf.GPT2Config(
            vocab_size=99, n_embd=32, n_layer=2, n_head=4, scale_attn_by_inverse_layer_idx=True
        )),
        hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, head_dim=8, attention_bias=True)),
        hf.LlamaForCausalLM(hf.LlamaConfig(**GQA, hidden_act="relu")),
        hf.MistralForCausalLM(hf.MistralConfig(**GQA, sliding_window=3)),
        hf.GptOssForCausalLM(hf.GptOssConfig(**GQA, head_dim=8, num_local_experts=4)),
    ]  # fmt: skip
    assert [read(m) for m in odd] == [None] * len(odd)
