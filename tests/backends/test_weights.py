"""Weights that are not all there, not of their shape or not numbers: refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.families import make
from tokenscope.backends.hf.load import load
from tokenscope.errors import ModelError

DOWN = "model.layers.1.mlp.down_proj.weight"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("weights") / "llama")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def changed(folder: Path, change: Callable[[Tensors], Any]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def configured(folder: Path, **settings: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def filled(name: str, value: float) -> Callable[[Tensors], Any]:
    def change(tensors: Tensors) -> None:
        tensors[name][0, 3] = value

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda t: t.pop(DOWN), rf"lacks|asks for .*{DOWN}"),
        (lambda t: t.update(extra=torch.zeros(9999), **{DOWN: t[DOWN]}) or t.pop(DOWN),
         rf"lacks 1 tensor.*{DOWN}"),
        (filled(DOWN, float("nan")), rf"{DOWN}' holds 1 values that are not finite"),
        (filled("model.embed_tokens.weight", float("inf")), "embed_tokens.* not finite"),
        (filled(DOWN, float("-inf")), "not finite"),
        (lambda t: t.update({DOWN: t[DOWN].T.contiguous()}), rf"{DOWN}' has shape \[48, 32\]; .*"),
        (lambda t: t.update({DOWN: t[DOWN][:, :40].contiguous()}), rf"{DOWN}' has shape"),
    ],
)  # fmt: skip
def test_a_bad_tensor_is_named(folder: Path, change: Callable[[Tensors], Any], cause: str) -> None:
    with pytest.raises(
        ModelError, match=rf"(model\.safetensors|config\.json).*({cause})"
    ) as caught:
        load(changed(folder, change))
    assert DOWN in str(caught.value) or "embed_tokens" in str(caught.value)


def test_tied_weights_are_not_missing(folder: Path) -> None:
    changed(folder, lambda t: t.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load(folder)
    model = load(configured(folder, tie_word_embeddings=True)).model
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_values_beyond_float16_are_named(folder: Path) -> None:
    changed(folder, filled(DOWN, 1e6))
    with pytest.raises(ModelError, match=r"as float16.*load it as bfloat16"):
        load(folder, dtype="float16")


def test_unused_tensors_are_noted(folder: Path) -> None:
    backend = load(changed(folder, lambda t: t.update(strange=torch.ones(3))))
    assert any(
        "1 stored tensor(s) are not used" in n and "strange" in n for n in backend.info.notes
    )


def test_a_tokenizer_larger_than_the_embedding(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(8000)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"tokenizer\.json.*has id 8000.*8000 rows"):
        load(folder)


@pytest.mark.parametrize("method", ["nonesuch", None, 7])
def test_an_unknown_quantisation_is_refused(folder: Path, method: object) -> None:
    with pytest.raises(ModelError, match=r"config\.json: quantization_config: quant_method"):
        load(configured(folder, quantization_config={"quant_method": method}))


@pytest.mark.parametrize(
    ("kind", "name", "cause"),
    [
        ("bert", "BertForMaskedLM", "is an encoder"),
        ("bert", None, "'bert' is an encoder"),
        ("roberta", "RobertaForSequenceClassification", "is a classifier"),
        ("t5", "T5ForConditionalGeneration", "is an encoder-decoder"),
        ("vit", "ViTForImageClassification", "is a vision model"),
        ("qwen2_vl", "Qwen2VLForConditionalGeneration", "is a vision-language model"),
        ("whisper", "WhisperForConditionalGeneration", "is (an encoder-decoder|a speech model)"),
        ("llama", "LlamaModel", "without a language head"),
        ("vit", None, "'vit' has no decoder"),
    ],
)
def test_what_is_no_decoder_is_called_by_its_name(
    folder: Path, kind: str, name: str | None, cause: str
) -> None:
    with pytest.raises(ModelError, match=rf"config\.json: .*{cause}"):
        load(configured(folder, model_type=kind, architectures=[name] if name else None))


def test_adapters_and_gguf_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match=r"lies beside the model and would be ignored.*merge"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"is an adapter \(LoRA\), not a whole model.*merge"):
        load(folder)
    other = tmp_path / "gguf"
    other.mkdir()
    (other / "model-q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"model-q4\.gguf: is a GGUF file: give the address"):
        load(other)
