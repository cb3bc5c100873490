"""What a folder holds when it is no decoder in safetensors, said plainly, with what to do."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenscope.errors import ModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
MERGE = (
    "merge it into its base model first (peft: `PeftModel.from_pretrained(base, adapter)"
    ".merge_and_unload().save_pretrained(folder)`) and load that folder"
)
GGUF = (
    "give the address of the .gguf file itself (it needs the extra `gguf`), or take the model's "
    "own folder in safetensors"
)
# Sets of architectures of transformers' own tables, tried in this order after the decoders.
OTHERS = (
    ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "an encoder-decoder"),
    ("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "an encoder"),
    ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "a vision-language model"),
    ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "a vision model"),
    ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", "a speech model"),
    ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "a classifier"),
    ("MODEL_MAPPING_NAMES", "a model without a language head"),
)
ONLY = "TokenScope reads decoder-only language models"


def check_files(folder: Path) -> None:
    """Raise ModelError for a folder of another format, by the files that lie in it."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        if (folder / "config.json").is_file():
            raise ModelError(
                adapter, f"an adapter (LoRA) lies beside the model and would be ignored: {MERGE}, "
                "or move the adapter's files away to look at the base model",
            )  # fmt: skip
        raise ModelError(adapter, f"this is an adapter (LoRA), not a whole model: {MERGE}")
    if not (folder / "config.json").is_file():
        found = sorted(folder.glob("*.gguf"))
        if found:
            raise ModelError(found[0], f"is a GGUF file: {GGUF}")
        if (folder / "model_index.json").is_file():
            raise ModelError(folder / "model_index.json", f"this is a diffusion pipeline; {ONLY}")
    if not (folder / "tokenizer.json").is_file() and (folder / "config.json").is_file():
        raise ModelError(
            folder / "tokenizer.json", "is missing: a fast tokenizer is needed (transformers: "
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` writes one)",
        )  # fmt: skip


def without_weights(folder: Path) -> str:
    """Why a folder without safetensors weights cannot be loaded."""
    if any(folder.glob("*.gguf")):
        return f"holds its weights as GGUF: {GGUF}"
    if any(any(folder.glob(p)) for p in PICKLES):
        return (
            "holds pickled weights only; TokenScope loads safetensors and never pickles "
            "(transformers' `save_pretrained` writes safetensors)"
        )
    if any(folder.glob("*.safetensors")):
        return "has neither model.safetensors nor model.safetensors.index.json beside its weights"
    return "holds no *.safetensors weights"


def check_config(path: Path, config: dict[str, Any]) -> None:
    """Raise ModelError for a config that is no decoder's: each with what it is."""
    if config.get("is_encoder_decoder"):
        raise ModelError(path, f"is_encoder_decoder: an encoder-decoder; {ONLY}")
    kind = config.get("model_type")
    if not kind or not isinstance(kind, str):
        raise ModelError(path, "has no model_type")
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ModelError(path, "architectures: is no list of names")
    from transformers.models.auto import modeling_auto as auto

    decoders = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if names and not set(names) & _flat(decoders.values()):
        for table, what in OTHERS:
            if set(names) & _flat(getattr(auto, table).values()):
                raise ModelError(path, f"architectures: {names[0][:80]} is {what}; {ONLY}")
    if kind not in decoders:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if kind in CONFIG_MAPPING_NAMES:
            raise ModelError(path, f"model_type: {kind!r} has no decoder; {ONLY}")
        raise ModelError(
            path, f"model_type: {kind[:80]!r} is an architecture that this version of transformers "
            "does not know (code that comes with a model is never run)",
        )  # fmt: skip
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
        raise ModelError(
            path, f"model_type: {kind!r} is an encoder (is_decoder is not set); {ONLY}"
        )
    _check_quantization(path, config)


# what transformers needs to read weights that are stored so
PACKAGES = {
    "gptq": "gptqmodel", "awq": "gptqmodel", "bitsandbytes": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes", "bitsandbytes_8bit": "bitsandbytes",
    "compressed-tensors": "compressed_tensors", "hqq": "hqq", "aqlm": "aqlm", "eetq": "eetq",
    "higgs": "flute", "spqr": "spqr_quant", "vptq": "vptq", "torchao": "torchao",
}  # fmt: skip


def _flat(names: Any) -> set[str]:
    return {n for group in names for n in (group if isinstance(group, tuple) else (group,))}


def _check_quantization(path: Path, config: dict[str, Any]) -> None:
    """An unknown method would load silently, as plain numbers that mean something else."""
    settings = config.get("quantization_config")
    if settings is None:
        return
    from transformers.quantizers import auto

    known = auto.AUTO_QUANTIZATION_CONFIG_MAPPING

    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and method is None:
        four, eight = settings.get("load_in_4bit"), settings.get("load_in_8bit")
        method = "bitsandbytes_4bit" if four else "bitsandbytes_8bit" if eight else None
    if not isinstance(method, str) or (method not in known and method != "bitsandbytes"):
        raise ModelError(
            path, f"quantization_config: quant_method {str(method)[:40]!r} is unknown; known: "
            f"{', '.join(sorted(known))}",
        )  # fmt: skip
    package = PACKAGES.get(method)
    if package is not None and find_spec(package) is None:
        raise ModelError(
            path, f"quantization_config: weights stored as {method} need the package "
            f"{package.replace('_', '-')}, which is not installed; the same model as float16 or "
            "GGUF needs no such package",
        )  # fmt: skip
