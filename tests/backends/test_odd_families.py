"""Families that the recorder or the growing cache does not fit: slower, but right, and said so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from transformers import AutoModelForCausalLM

from tests.backends.test_families import TEXT, reference
from tests.families import COMMON, VOCAB, randomise, save_folder
from tokenscope.decode.machine import KEPT_EVERY
from tokenscope.runs.generate import Settings, fork, generate
from tokenscope.runs.model import load

ODD: dict[str, Callable[[], Any]] = {
    "bloom": lambda: hf.BloomForCausalLM(
        hf.BloomConfig(
            vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        )
    ),
    "codegen": lambda: hf.CodeGenForCausalLM(
        hf.CodeGenConfig(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=256,
            n_ctx=256, bos_token_id=0, eos_token_id=0,
        )
    ),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(**COMMON, alibi=False, new_decoder_architecture=False)
    ),
    "lfm2": lambda: hf.Lfm2ForCausalLM(
        hf.Lfm2Config(
            **COMMON, num_key_value_heads=2, intermediate_size=48, block_multiple_of=16,
            layer_types=["conv", "full_attention", "conv"],
        )
    ),
    "granite-hybrid": lambda: hf.GraniteMoeHybridForCausalLM(
        hf.GraniteMoeHybridConfig(
            **COMMON, num_key_value_heads=2, intermediate_size=48, shared_intermediate_size=48,
            num_local_experts=0, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8,
            mamba_n_groups=1, mamba_expand=2, mamba_chunk_size=16,
            layer_types=["mamba", "attention", "mamba"], position_embedding_type="rope",
        )
    ),
    "mamba": lambda: hf.MambaForCausalLM(
        hf.MambaConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, bos_token_id=0,
            eos_token_id=0, pad_token_id=0,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ODD))
def test_right_or_refused(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = load(save_folder(randomise(ODD[name]()), tmp_path / name))
    trace = generate(model, prompt=TEXT, settings=Settings(max_new_tokens=10)).result()
    fresh = AutoModelForCausalLM.from_pretrained(
        model.path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = torch.from_numpy(trace.ids.astype(np.int64))[None]
    with torch.no_grad():
        out = fresh(ids, output_attentions=True, use_cache=False)
    want = reference(out.logits[0].double().numpy(), trace.ids)
    for column in ("logprob", "entropy", "margin", "varentropy"):
        assert np.abs(trace.column(column)[1:] - want[column]).max() <= 2e-4, (name, column)
    found = [a for a in (getattr(out, "attentions", None) or ()) if a is not None]
    assert len(model.info.attention_layers) == len(found)
    if found:
        assert trace.attention is not None
        assert trace.attention.layers == model.info.attention_layers
        t = len(trace) - 2
        row = trace.attention.row(model.info.attention_layers[-1], 1, t)
        exact = found[-1][0, 1, t - 1, :t].numpy()
        kept = row > 0
        assert np.abs(row - exact)[kept].max() <= 1e-3
    else:
        assert trace.attention is None
    at = trace.n_prompt + 4
    branch = fork(model, trace, at, 300, Settings(max_new_tokens=4)).result()
    with torch.no_grad():
        logits = fresh(torch.from_numpy(branch.ids.astype(np.int64))[None], use_cache=False).logits
    want = reference(logits[0].double().numpy(), branch.ids)
    assert np.abs(branch.column("logprob")[1:] - want["logprob"]).max() <= 2e-4


def test_a_recurrent_memory_is_kept_at_intervals(tmp_path: Path) -> None:
    """A branch far behind the prompt reads again what the interval holds, no more."""
    torch.manual_seed(3)
    model = load(save_folder(randomise(ODD["mamba"]()), tmp_path / "mamba"))
    trace = model.generate(TEXT, max_new_tokens=3 * KEPT_EVERY)
    assert len(trace) > trace.n_prompt + 2 * KEPT_EVERY, "it did not end by itself"
    at = trace.n_prompt + 2 * KEPT_EVERY + 9
    fed: list[int] = []
    plain = model.backend.extend_many  # type: ignore[attr-defined]

    def counted(feeds: Any) -> Any:
        fed.extend(len(f.ids) for f in feeds)
        return plain(feeds)

    model.backend.extend_many = counted  # type: ignore[attr-defined]
    other = int(trace.alternatives.ids[at][1])  # type: ignore[union-attr]
    branch = model.fork(trace, at=at, token=other, max_new_tokens=3)
    assert KEPT_EVERY // 8 < sum(fed) <= KEPT_EVERY + 4
    with torch.no_grad():
        ids = torch.from_numpy(branch.ids.astype(np.int64))[None]
        logits = model.backend.model(ids, use_cache=False).logits  # type: ignore[attr-defined]
    want = reference(logits[0].double().numpy(), branch.ids)
    assert np.abs(branch.column("logprob")[1:] - want["logprob"]).max() <= 2e-4
