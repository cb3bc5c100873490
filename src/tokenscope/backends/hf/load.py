"""An address (nothing, a folder, a hub id) to a loaded backend."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tokenscope.backends.hf import chat, recorder
from tokenscope.backends.hf.backend import TransformersBackend
from tokenscope.backends.hf.checkpoint import Checkpoint, digest, inspect
from tokenscope.backends.hf.infill import find_marks
from tokenscope.backends.hf.probe import probe
from tokenscope.backends.hf.vocabulary import Vocabulary
from tokenscope.backends.protocol import Abilities, ModelInfo
from tokenscope.errors import AbilityError, CapacityError, InputError, ModelError

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "bundled"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def resolve(
    address: str | Path | None, allow_network: bool = False, root: Path | None = None
) -> Path:
    """The folder that an address means. Raises ModelError when there is none.

    ``None`` or ``"bundled"``: the model that ships with the package. A hub id is looked up in the
    local cache; it is fetched only with ``allow_network``. ``root``: folders must lie inside it.
    """
    if address is None or str(address) == "bundled":
        return BUNDLED
    text = str(address)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if root is not None and not folder.resolve().is_relative_to(root.resolve()):
            raise ModelError(folder.name, "lies outside the model root of this server")
        return folder
    if folder.exists():
        raise ModelError(text, "is no folder")
    if folder.is_absolute() or text.startswith(("./", "../", "~")) or not HUB_ID.fullmatch(text):
        raise ModelError(text[:200], "does not exist")
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(
            snapshot_download(text, local_files_only=not allow_network, allow_patterns=wanted)
        )
    except Exception as error:  # the hub client raises many kinds; all mean: not to be had
        hint = "" if allow_network else "; the network is off (allow it to fetch from the hub)"
        raise ModelError(text, f"is neither a folder nor in the local cache{hint}") from error


def load(
    address: str | Path | None = None,
    *,
    dtype: str | None = None,
    device: str | None = None,
    allow_network: bool = False,
    root: Path | None = None,
) -> TransformersBackend:
    """Load a decoder. ``dtype`` and ``device`` are chosen sensibly when not given.

    Raises ModelError (names the file and the cause), InputError for an unknown dtype or device,
    CapacityError when the weights cannot fit in memory.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "0" if allow_network else "1")
    folder = resolve(address, allow_network, root)
    checkpoint = inspect(folder, root if folder != BUNDLED else None)
    place = _device(device)
    kind, notes = _dtype(dtype, checkpoint, place)
    model = _model(checkpoint, kind, place)
    vocabulary, marks = _vocabulary(checkpoint.path)
    recorder.register()
    try:
        found = probe(model)
    except AbilityError as error:
        raise ModelError(checkpoint.path, f"cannot be decoded: {error}") from error
    notes += found.notes
    compact = found.compact
    config = model.config.get_text_config(decoder=True)
    size = next(iter(model.parameters())).element_size()
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or (config.hidden_size // max(heads, 1)))
    info = ModelInfo(
        name=_name(address, checkpoint), path=str(checkpoint.path),
        architecture=type(model).__name__, backend="transformers",
        parameters=sum(p.numel() for p in model.parameters()),
        layers=int(config.num_hidden_layers), heads=heads, kv_heads=kv_heads,
        hidden=int(config.hidden_size), vocab=int(model.get_input_embeddings().weight.shape[0]),
        context=_context(config), dtype=str(kind).removeprefix("torch."), device=str(place),
        kernel=found.kernel, model_digest=digest((checkpoint.path / "config.json",
        *checkpoint.weights)), tokenizer_digest=digest((checkpoint.path / "tokenizer.json",)),
        attention_layers=found.layers,
        state_bytes_per_token=2 * len(found.layers) * kv_heads * width * size,
        notes=tuple(notes), versions=versions(),
    )  # fmt: skip
    template = chat.find_template(checkpoint.path)
    bos, stops, variables = _ends(model, checkpoint.path, vocabulary)
    abilities = Abilities(
        attention=bool(found.layers), infill=marks is not None, chat=template is not None,
        internals=True,
    )  # fmt: skip
    return TransformersBackend(
        model, vocabulary, info, abilities, stops, bos, marks, template, variables, compact, place
    )


def _name(address: str | Path | None, checkpoint: Checkpoint) -> str:
    if address is None or str(address) == "bundled":
        return "bundled"
    text = str(address)
    return text if HUB_ID.fullmatch(text) and not Path(text).exists() else checkpoint.path.name


def _device(device: str | None) -> torch.device:
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", f"{device[:40]!r} is not available here") from error
    return place


def _dtype(
    wanted: str | None, checkpoint: Checkpoint, device: torch.device
) -> tuple[torch.dtype, list[str]]:
    """float32 on a CPU where it fits (16-bit arithmetic is slow there), else as stored."""
    if wanted is not None and wanted != "auto":
        if wanted not in DTYPES:
            raise InputError("dtype", f"{wanted[:40]!r}; known: {', '.join(DTYPES)}")
        kind = DTYPES[wanted]
        _fits(checkpoint, kind, device)
        return kind, [f"{wanted}: as asked"]
    if device.type == "cpu":
        free = _free(device)
        if checkpoint.values * 4 <= free * 0.7:
            return torch.float32, ["float32: the fast and exact choice on a CPU, and it fits"]
        _fits(checkpoint, torch.bfloat16, device)
        return torch.bfloat16, ["bfloat16: float32 would not fit in memory"]
    kind = torch.bfloat16 if "BF16" in checkpoint.dtypes else torch.float16
    if set(checkpoint.dtypes) == {"F32"} and checkpoint.values * 4 <= _free(device) * 0.7:
        kind = torch.float32
    _fits(checkpoint, kind, device)
    return kind, [f"{str(kind).removeprefix('torch.')}: as stored"]


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def _fits(checkpoint: Checkpoint, kind: torch.dtype, device: torch.device) -> None:
    need = checkpoint.values * kind.itemsize
    free = _free(device)
    if need > free * 0.95:
        raise CapacityError(
            f"{checkpoint.path.name}: its weights need {need / 1e9:.1f} GB as "
            f"{str(kind).removeprefix('torch.')}, {free / 1e9:.1f} GB are free on {device}"
        )


def _model(checkpoint: Checkpoint, kind: torch.dtype, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint.path, dtype=kind, local_files_only=True, trust_remote_code=False,
            use_safetensors=True, attn_implementation="eager",
        )  # fmt: skip
    except Exception as error:  # a hostile or broken folder can raise anything
        raise ModelError(checkpoint.path, f"cannot be loaded ({_brief(error)})") from error
    return model.to(device).eval().requires_grad_(False)


def _brief(error: BaseException) -> str:
    lines = [s for s in str(error).strip().splitlines() if s.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _vocabulary(folder: Path) -> tuple[Vocabulary, Any]:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (Rust panics are no Exception)
        raise ModelError(file, f"is no tokenizer ({_brief(error)})") from None
    marks = find_marks(tokenizer.token_to_id)
    ids = (marks.prefix, marks.suffix, marks.middle) if marks else ()
    return Vocabulary(tokenizer, ids), marks


def _context(config: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 1 << 17


def _ends(
    model: Any, folder: Path, vocabulary: Vocabulary
) -> tuple[tuple[int, ...], frozenset[int], dict[str, Any]]:
    """Start tokens, the EOS set of the generation config, and the template's variables."""
    from tokenscope.backends.hf.checkpoint import read_json

    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")

    def literal(name: str) -> str | None:
        value = settings.get(name)
        return value.get("content") if isinstance(value, dict) else value

    stops: set[int] = set()
    for holder in (model.generation_config, model.config):
        value = getattr(holder, "eos_token_id", None)
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, int):
                stops.add(item)
    names = {n: literal(n) for n in ("bos_token", "eos_token", "unk_token", "pad_token")}
    eos = vocabulary.id_of(names["eos_token"]) if names["eos_token"] else None
    if eos is not None:
        stops.add(eos)
    bos: tuple[int, ...] = ()
    if names["bos_token"] and settings.get("add_bos_token", True):
        found = vocabulary.id_of(names["bos_token"])
        # A start token that is no special token would put bytes in front of the text: left out.
        bos = (found,) if found is not None and found in vocabulary.specials else ()
    variables = {k: v for k, v in names.items() if isinstance(v, str)}
    return bos, frozenset(stops), variables


def versions() -> dict[str, str]:
    """Versions that decide the numbers."""
    out = {"python": platform.python_version(), "platform": sys.platform}
    for name in ("tokenscope", "torch", "transformers", "tokenizers"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = ""
    return out
