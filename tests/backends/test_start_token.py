"""What stands before a plain prompt: exactly what the model's own tokenizer puts there.

Small real tokenizers of many families, made with the classes and post-processors that their
folders carry; the reference is ``AutoTokenizer`` on the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as train
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokenscope.backends.hf.tokenizer import choose_start, open_tokenizer
from tokenscope.backends.hf.vocabulary import Vocabulary
from tokenscope.errors import InputError
from tokenscope.runs.model import Model, load

CORPUS = ["def f(x):\n    return x + 1\n", "class A:\n\tpass", "for i in range(10): print(i)"] * 20
TEXTS = ("def f(x):\n    return x\n", "a", "x = 1\n", "naïve ☃")
ROWS = 4096


def byte_level(*specials: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = train.BpeTrainer(
        vocab_size=400, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metaspace(*specials: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    fallback = [f"<0x{b:02X}>" for b in range(256)]
    trainer = train.BpeTrainer(
        vocab_size=600, special_tokens=[*specials, *fallback], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def before(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """The tokenizer with a post-processor that puts a token before every text."""
    number = tokenizer.token_to_id(token)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B:1", special_tokens=[(token, number)]
    )
    return tokenizer


LLAMA3 = "<|begin_of_text|>"
DEEPSEEK = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
SP = ("<unk>", "<s>", "</s>")
E_O_T = "<|endoftext|>"


@dataclass(frozen=True)
class Family:
    """A model type, its tokenizer, what tokenizer_config.json says, and what stands first."""

    kind: str
    make: Callable[[], Tokenizer]
    settings: dict[str, Any]
    first: str = ""


def sentence(kind: str, name: str, first: str = "<s>", **more: Any) -> Family:
    words = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = (lambda: before(metaspace(*SP), "<s>")) if first else (lambda: metaspace(*SP))
    return Family(kind, made, {"tokenizer_class": name, **words, **more}, first)


def gpt(kind: str, name: str, **more: Any) -> Family:
    words = {"bos_token": E_O_T, "eos_token": E_O_T}
    return Family(kind, lambda: byte_level(E_O_T), {"tokenizer_class": name, **words, **more})


def named(kind: str, name: str, token: str, puts: bool, **more: Any) -> Family:
    made = lambda: before(byte_level(token, "<end>"), token) if puts else byte_level(token, "<end>")
    words = {"bos_token": token, "eos_token": "<end>"}
    return Family(kind, made, {"tokenizer_class": name, **words, **more}, token if puts else "")


FAMILIES = {
    "llama": sentence("llama", "LlamaTokenizerFast"),
    "llama, add_bos_token": sentence("llama", "LlamaTokenizer", add_bos_token=True),
    "llama, post-processor without": sentence("llama", "LlamaTokenizer", "", add_bos_token=True),
    "llama 3": named("llama", "PreTrainedTokenizerFast", LLAMA3, True),
    "qwen2": Family(
        "qwen2", lambda: byte_level(E_O_T, "<|im_start|>", "<|im_end|>"),
        {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>",
         "add_bos_token": False},
    ),
    "gemma": Family(
        "gemma", lambda: before(metaspace("<pad>", "<eos>", "<bos>", "<unk>"), "<bos>"),
        {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>",
         "unk_token": "<unk>", "pad_token": "<pad>"}, "<bos>",
    ),
    "gpt2": gpt("gpt2", "GPT2Tokenizer"),
    "gpt-neox": gpt("gpt_neox", "GPTNeoXTokenizer"),
    "mistral": sentence("mistral", "LlamaTokenizer"),
    "phi": gpt("phi", "CodeGenTokenizer"),
    "starcoder2": gpt("starcoder2", "GPT2Tokenizer"),
    "codegen": gpt("codegen", "CodeGenTokenizer"),
    "bloom": named("bloom", "BloomTokenizerFast", "<s>", False, unk_token="<s>"),
    "falcon": gpt("falcon", "PreTrainedTokenizerFast"),
    "smollm2": named("llama", "GPT2Tokenizer", "<|im_start|>", False),
    "smollm2, as saved": named("llama", "TokenizersBackend", "<|im_start|>", False),
    "deepseek": named("llama", "LlamaTokenizerFast", DEEPSEEK, True, add_bos_token=True),
    "cohere": named("cohere", "CohereTokenizerFast", "<BOS_TOKEN>", True),
    "olmo": gpt("olmo", "GPTNeoXTokenizerFast"),
    "granite": gpt("granite", "GPT2Tokenizer"),
}  # fmt: skip


def write(family: Family, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": family.kind}))
    family.make().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(family.settings))
    return folder


@pytest.mark.parametrize("name", list(FAMILIES))
def test_plain_ids_are_the_tokenizers_own(name: str, tmp_path: Path) -> None:
    folder = write(FAMILIES[name], tmp_path / "m")
    opened = open_tokenizer(folder, ROWS)
    start, note = choose_start(opened, "auto", None)
    vocabulary = Vocabulary(opened.tokenizer, start)
    own = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        tokens = vocabulary.encode(text, start)
        assert tokens.ids.tolist() == own(text).input_ids, text
        assert tokens.data == text.encode()
    assert [vocabulary.label(i) for i in start] == ([FAMILIES[name].first] * bool(start))
    assert ("puts none" in note) == (not start)


def test_most_families_put_what_their_makers_meant(tmp_path: Path) -> None:
    """The reference itself is not empty: start tokens come out where a family has one."""
    for n, (name, family) in enumerate(FAMILIES.items()):
        opened = open_tokenizer(write(family, tmp_path / str(n)), ROWS)
        want = [family.first] if family.first else []
        assert [opened.tokenizer.id_to_token(i) for i in opened.puts] == want, name


def test_the_user_can_switch_it(tmp_path: Path) -> None:
    puts = open_tokenizer(write(FAMILIES["llama 3"], tmp_path / "a"), ROWS)
    none = open_tokenizer(write(FAMILIES["smollm2"], tmp_path / "b"), ROWS)
    bare = open_tokenizer(write(FAMILIES["qwen2"], tmp_path / "c"), ROWS)
    assert choose_start(puts, "never", None) == ((), "no start token: as asked")
    assert choose_start(puts, "always", None)[0] == choose_start(puts, "auto", None)[0]
    start, note = choose_start(none, "always", None)
    assert start == (none.tokenizer.token_to_id("<|im_start|>"),)
    assert "as asked" in note
    with pytest.raises(InputError, match="has no start token"):
        choose_start(bare, "always", None)
    with pytest.raises(InputError, match="known: auto, always, never"):
        choose_start(puts, "sometimes", None)  # type: ignore[arg-type]


def test_the_bundled_model_starts_as_it_was_trained(bundled: Model) -> None:
    assert bundled.info.start_token == "<|endoftext|>"
    own = AutoTokenizer.from_pretrained(bundled.path)
    text = "def f(x):\n    return"
    assert bundled.backend.encode(text).ids.tolist() == own(text).input_ids
    assert any("start token <|endoftext|>" in note for note in bundled.info.notes)
    never = load(start_token="never")
    assert never.info.start_token == ""
    assert never.backend.encode(text).ids.tolist() == own(text).input_ids[1:]


def test_a_trained_model_says_what_transformers_says(real: Model) -> None:
    """Greedy text and perplexity of SmolLM2, which has a start token and puts none."""
    assert real.info.start_token == ""
    own = AutoTokenizer.from_pretrained(real.path)
    reference = AutoModelForCausalLM.from_pretrained(real.path, dtype=torch.float32).eval()
    prompt = "def is_prime(n):\n    "
    ids = own(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        out = reference.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        loss = reference(out, labels=out).loss
    trace = real.generate(prompt, max_new_tokens=12)
    assert trace.ids.tolist() == out[0].tolist()
    scored = real.score(own.decode(out[0]))
    assert np.nanmean(scored.column("surprisal")) == pytest.approx(float(loss), abs=1e-4)
