"""What a config claims against what the weight files declare, before anything is allocated.

The model is built without memory (torch's meta device) and its shapes are compared with the
headers. Counts that would make even that slow are bounded first: a layer or an expert that the
config asks for must be there in a name or a shape of the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.headers import Stored
from tokenscope.errors import ModelError

MAX_LAYERS = 512  # the deepest known decoders have about 130
MAX_NUMBER = 1 << 31
MAX_BUFFERS = 512 << 20
FLOATS = ("F64", "F32", "F16", "BF16")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
MAX_ENTRIES = 10_000  # of any list or table in the config
MAX_LABELS = 100_000
FREE = ("model_max_length", "max_length", "transformers_version", "seed")  # build nothing
NUMBER = re.compile(r"(?:^|\.)(\d{1,9})(?=\.)")


@dataclass(frozen=True, slots=True)
class Claims:
    """What the config asks for, found to agree with the files. ``rows``: of the embedding."""

    config: Any
    parameters: int
    rows: int


def check(checkpoint: Checkpoint) -> Claims:
    """Raise ModelError that names the key or the tensor where config and files disagree."""
    path = checkpoint.path / "config.json"
    _check_numbers(path, checkpoint)
    config, model = _skeleton(checkpoint)
    if not checkpoint.config.get("quantization_config"):
        _check_shapes(checkpoint, model)
    for name, buffer in model.named_buffers():
        if buffer.nbytes > MAX_BUFFERS:
            raise ModelError(
                path, f"asks for a buffer {name!r} of shape {tuple(buffer.shape)}: "
                f"{buffer.nbytes / 1e9:.1f} GB"
            )  # fmt: skip
    table = model.get_input_embeddings()
    if table is None or getattr(table, "weight", None) is None:
        raise ModelError(path, "describes a model without a token embedding")
    return Claims(config, sum(p.numel() for p in model.parameters()), int(table.weight.shape[0]))


def _values(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in a config, collections before what they hold."""
    yield key, value
    if depth > 12:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, str(name), depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, key, depth + 1)


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    return ((k, v) for k, v in _values(config) if type(v) is int)


def _collections(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((k, v) for k, v in _values(config) if isinstance(v, (dict, list)))


def _check_numbers(path: Path, checkpoint: Checkpoint) -> None:
    names = list(checkpoint.tensors)
    held = [[int(n) for n in NUMBER.findall(name)] for name in names]
    deepest = max((n[0] for n in held if n), default=-1) + 1
    widest = max((max(n) for n in held if n), default=-1) + 1
    sizes = {d for t in checkpoint.tensors.values() for d in t.shape}
    for key, value in _collections(checkpoint.config):
        if len(value) > MAX_ENTRIES:
            raise ModelError(path, f"{key[:80]}: holds {len(value)} entries")
    for key, value in _numbers(checkpoint.config):
        if key == "num_labels" and value > MAX_LABELS:
            raise ModelError(path, f"{key}: {value} is out of range")
        if key not in FREE and not -MAX_NUMBER < value < MAX_NUMBER:
            raise ModelError(path, f"{key[:80]}: {str(value)[:24]} is out of range")
        if key in EXPERTS and value > widest and value not in sizes:
            raise ModelError(path, f"{key}: is {value}; the weight files hold no such number")
    inner = checkpoint.config.get("text_config")
    for part in (checkpoint.config, inner if isinstance(inner, dict) else {}):
        for key in LAYERS:
            _check_layers(path, key, part.get(key), deepest)


def _check_layers(path: Path, key: str, value: Any, deepest: int) -> None:
    if value is None:
        return
    if type(value) is not int or value < 1:
        raise ModelError(path, f"{key}: {str(value)[:24]!r}; at least one layer is needed")
    if value > deepest:
        raise ModelError(path, f"{key}: is {value}, but the weight files hold {deepest} layers")
    if value > MAX_LAYERS:
        raise ModelError(path, f"{key}: {value} layers are over the limit of {MAX_LAYERS}")


def _skeleton(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The config as transformers reads it, and its model on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    path = checkpoint.path / "config.json"
    try:
        config = AutoConfig.from_pretrained(
            checkpoint.path, local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 (a hostile or broken config can raise anything)
        raise ModelError(path, f"describes no model ({brief(error)})") from None
    return config, model


def _check_shapes(checkpoint: Checkpoint, model: Any) -> None:
    """Names that model and files share have one shape; the files hold enough values."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    absent = ""
    for name, parameter in model.named_parameters():
        stored = _stored(checkpoint, name, prefix)
        if stored is None:
            absent = absent or name
        elif stored.dtype not in FLOATS and parameter.is_floating_point():
            raise ModelError(
                stored.file, f"tensor {name!r} is stored as {stored.dtype}, which is no plain "
                "number of a weight, and config.json has no quantization_config",
            )  # fmt: skip
        elif stored.shape != tuple(parameter.shape):
            raise ModelError(
                stored.file, f"tensor {name!r} has shape {list(stored.shape)}; config.json asks "
                f"for {list(parameter.shape)}",
            )  # fmt: skip
    # What has another name in the files (merged experts, old names) is found when it is loaded;
    # here it is enough that the model is no larger than what is stored.
    wanted = sum(p.numel() for p in model.parameters())
    if wanted > checkpoint.values:
        raise ModelError(
            checkpoint.path / "config.json", f"asks for {wanted} values, the weight files hold "
            f"{checkpoint.values}" + (f"; tensor {absent!r} is missing" if absent else ""),
        )  # fmt: skip


def stored_as(checkpoint: Checkpoint, name: str, model: Any) -> Stored | None:
    """The stored tensor that a parameter is, by its name with or without the base's prefix."""
    return _stored(checkpoint, name, f"{getattr(model, 'base_model_prefix', '')}.")


def _stored(checkpoint: Checkpoint, name: str, prefix: str) -> Stored | None:
    return (
        checkpoint.tensors.get(name)
        or checkpoint.tensors.get(name.removeprefix(prefix))
        or checkpoint.tensors.get(prefix + name)
    )


def brief(error: BaseException) -> str:
    """Kind and first words of a foreign error, on one line of at most 240 characters."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:240]}" if text else name
