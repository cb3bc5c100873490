"""An address (nothing, a folder, a hub id) to a loaded backend."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tokenscope import disk
from tokenscope.backends import loading, room
from tokenscope.backends.hf import chat, quality, recorder, spread
from tokenscope.backends.hf import claims as claimed
from tokenscope.backends.hf.backend import TransformersBackend
from tokenscope.backends.hf.checkpoint import Checkpoint, digest, inspect
from tokenscope.backends.hf.experts import routers
from tokenscope.backends.hf.hub import network, snapshot
from tokenscope.backends.hf.infill import find_marks
from tokenscope.backends.hf.probe import probe
from tokenscope.backends.hf.tokenizer import Opened, choose_start, open_tokenizer
from tokenscope.backends.hf.vocabulary import Vocabulary
from tokenscope.backends.hf.way import INT8, choose
from tokenscope.backends.hf.weights import load_weights
from tokenscope.backends.open import StartToken
from tokenscope.backends.protocol import Abilities, ModelInfo
from tokenscope.errors import AbilityError, InputError, ModelError

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "bundled"
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
    return snapshot(text, allow_network)


def load(
    address: str | Path | None = None,
    *,
    dtype: str | None = None,
    device: str | None = None,
    allow_network: bool = False,
    root: Path | None = None,
    start_token: StartToken = "auto",
    allow_links: bool = False,
    max_memory: int | None = None,
) -> TransformersBackend:
    """Load a decoder. ``dtype`` and ``device`` are chosen sensibly when not given.

    ``start_token``: whether plain prompts begin with one (``auto``: as the model's own tokenizer
    does). ``allow_links``: files of the folder may be links to places outside it.
    ``max_memory``: bytes that the process may take; what does not fit stays on the disk.

    Raises ModelError (names the file and the cause), InputError for an unknown dtype or device,
    CapacityError for what would not fit in memory.
    """
    with network(allow_network):
        folder = resolve(address, allow_network, root)
    with network(False), room.given_back():
        made = _open(address, folder, dtype, device, root, start_token, allow_links, max_memory)
    if made.streams:
        room.keep_giving_back()
    return made


def _open(
    address: str | Path | None, folder: Path, dtype: str | None, device: str | None,
    root: Path | None, start_token: StartToken, allow_links: bool, max_memory: int | None,
) -> TransformersBackend:  # fmt: skip
    """The folder as a backend: looked at, tokenizer, weights, probe."""
    loading.stage("looking at the files")
    checkpoint = inspect(folder, root if folder != BUNDLED else None, allow_links)
    claims = claimed.check(checkpoint)
    loading.stage("trying the tokenizer")
    opened = open_tokenizer(checkpoint.path, claims.rows)
    start, why = choose_start(opened, start_token, getattr(claims.config, "bos_token_id", None))
    places = spread.narrowed(spread.devices(device), device, checkpoint, _narrowest(dtype))
    place = places[0]
    room_on = spread.free(places)
    way = choose(checkpoint, dtype, place, max_memory, sum(room_on) if len(places) > 1 else None)
    notes = [way.note, why]
    where = None
    if len(places) > 1:
        if way.name == INT8 or way.resident is not None:
            raise InputError("device", f"{way.note.split(':')[0]} is for one device")
        where = spread.plan(checkpoint, way.kind, places, [int(n * spread.SHARE) for n in room_on])
        notes.append(f"its layers lie on {len(places)} devices; explanations need it on one")
    if opened.appends:
        notes.append("the tokenizer's end token is left off: a text here goes on")
    template = _template(checkpoint.path, notes)
    loading.stage("reading the weights")
    model, unused = load_weights(checkpoint, way, place, where)
    loading.stage("checking against its own forward")
    recorder.register()
    try:
        found = probe(model, way.pack)
    except AbilityError as error:
        raise ModelError(checkpoint.path, f"cannot be decoded: {error}") from error
    notes += [*unused, *found.notes]
    weights_digest = digest((checkpoint.path / "config.json", *checkpoint.weights))
    marks = find_marks(opened.tokenizer.token_to_id)
    ids = (marks.prefix, marks.suffix, marks.middle) if marks else ()
    vocabulary = Vocabulary(opened.tokenizer, (*ids, *start))
    loading.stage("measuring what its numbers cost")
    if way.name == INT8:
        text = [int(i) for i in vocabulary.encode(quality.TEXT, ()).ids][: claims.rows]
        kept = disk.cache_folder() / "quality"
        told = quality.measured(model, text, checkpoint, weights_digest, kept)
        notes.append(told if isinstance(told, str) else told.note)
    config = model.config.get_text_config(decoder=True)
    size = next(iter(model.parameters())).element_size()
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or (config.hidden_size // max(heads, 1)))
    info = ModelInfo(
        name=_name(address, checkpoint), path=str(checkpoint.path),
        architecture=type(model).__name__, backend="transformers",
        parameters=claims.parameters, layers=int(config.num_hidden_layers), heads=heads,
        kv_heads=kv_heads, hidden=int(config.hidden_size), vocab=claims.rows,
        context=_context(config, notes), dtype=way.name,
        device=",".join(str(p) for p in places), kernel=found.kernel,
        model_digest=weights_digest,
        tokenizer_digest=digest((checkpoint.path / "tokenizer.json",)),
        attention_layers=found.layers,
        state_bytes_per_token=2 * len(found.layers) * kv_heads * width * size,
        weight_bytes=_taken(model) + (found.compact.packed_bytes if found.compact else 0),
        expert_layers=tuple(layer for layer, _ in routers(model)),
        notes=tuple(notes), versions=versions(),
        start_token="".join(vocabulary.label(i) or "" for i in start),
    )  # fmt: skip
    abilities = Abilities(
        attention=bool(found.layers), infill=marks is not None, chat=template is not None,
        internals=way.resident is None and where is None,
        changes=way.resident is None and where is None,
    )  # fmt: skip
    return TransformersBackend(
        model, vocabulary, info, abilities, _stops(model, opened, claims.rows), start, marks,
        template, opened.names, found.compact, place,
    )  # fmt: skip


def _taken(model: torch.nn.Module) -> int:
    """Bytes of the weights and buffers in memory; what modules share counts once."""
    tensors = (*model.parameters(), *model.buffers())
    held = [t.untyped_storage() for t in tensors if t.device.type != "meta"]
    return sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())


def _name(address: str | Path | None, checkpoint: Checkpoint) -> str:
    if address is None or str(address) == "bundled":
        return "bundled"
    text = str(address)
    return text if HUB_ID.fullmatch(text) and not Path(text).exists() else checkpoint.path.name


def _narrowest(dtype: str | None) -> int:
    """Bytes of a value as it will be on a card."""
    return 4 if dtype == "float32" else 2


def _context(config: Any, notes: list[str]) -> int | None:
    """The longest input that the model was made for, as its config says."""
    for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    notes.append("the config gives no longest input: none is enforced")
    return None


def _stops(model: Any, opened: Opened, rows: int) -> frozenset[int]:
    """Ids at which decoding ends: those of the generation config, the config, the tokenizer."""
    found: set[int] = set()
    for holder in (model.generation_config, model.config):
        value = getattr(holder, "eos_token_id", None)
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if type(item) is int and 0 <= item < rows:
                found.add(item)
    eos = opened.names.get("eos_token")
    own = opened.tokenizer.token_to_id(eos) if eos else None
    return frozenset(found if own is None else {*found, own})


def _template(folder: Path, notes: list[str]) -> str | None:
    """The chat template, tried; one that fails is left out and said so."""
    template = chat.find_template(folder)
    cause = chat.failure(template) if template is not None else None
    if cause is None:
        return template
    jinja = folder / "chat_template.jinja"
    where = jinja.name if jinja.is_file() else "tokenizer_config.json: chat_template"
    notes.append(f"no chat: {where} cannot be used ({cause})")
    return None


def versions() -> dict[str, str]:
    """Versions that decide the numbers."""
    out = {"python": platform.python_version(), "platform": sys.platform}
    for name in ("tokenscope", "torch", "transformers", "tokenizers"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = ""
    return out
