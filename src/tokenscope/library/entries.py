"""One model at hand: what its files say it is, what it could do, and whether it fits here."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from tokenscope.backends import room
from tokenscope.backends.gguf import memory as gguf_memory
from tokenscope.backends.gguf.header import read_header
from tokenscope.backends.hf import memory as hf_memory
from tokenscope.backends.hf.checkpoint import Checkpoint, inspect
from tokenscope.errors import ModelError, TokenScopeError

Kind = Literal["bundled", "fetched", "folder", "cache", "to fetch"]
CONTEXT = 2048  # tokens that "fits here" counts with, or the model's own context if shorter
LICENCE = re.compile(r"^licen[cs]e:\s*([\w.+-]{1,60})\s*$", re.MULTILINE | re.IGNORECASE)
# how licences begin, for folders that only hold the text
TEXTS = (("Apache License", "apache-2.0"), ("MIT License", "mit"), ("BSD 3-Clause", "bsd-3-clause"))


@dataclass(frozen=True, slots=True)
class Able:
    """What it would be able to do once loaded. ``forks``: ``anywhere``, or only where a state was
    kept (``kept``)."""

    columns: bool = True
    attention: bool = True
    forks: str = "anywhere"
    internals: bool = True
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """``address``: what ``--model`` takes. ``size``: bytes of its weights on the disk. ``number``:
    the stored number type or quantisation. ``digest``: SHA-256 where it is known without reading
    the weights. ``reason``: why it cannot be loaded, None where nothing speaks against it.
    ``need``: bytes that it would take here, as the widest number type that fits (``way``);
    ``fits``: whether that is free now; ``why``: in a sentence."""

    address: str
    name: str
    kind: Kind
    form: Literal["safetensors", "gguf"]
    path: str
    architecture: str = ""
    parameters: int | None = None
    size: int = 0
    context: int | None = None
    number: str = ""
    licence: str = ""
    digest: str = ""
    able: Able | None = None
    way: str = ""
    need: int | None = None
    fits: bool | None = None
    why: str = ""
    reason: str | None = None


def describe(address: str, kind: Kind, path: Path) -> Entry:
    """A folder or a GGUF file, from its headers. Never raises for what is wrong with it: then
    ``reason`` says so."""
    form: Literal["safetensors", "gguf"] = "gguf" if path.is_file() else "safetensors"
    entry = Entry(address, path.stem if path.is_file() else path.name, kind, form, str(path))
    try:
        return _file(entry, path) if form == "gguf" else _folder(entry, path)
    except ModelError as error:
        return replace(entry, reason=str(error))
    except OSError as error:
        return replace(entry, reason=f"cannot be read ({error.strerror})")


def _file(entry: Entry, path: Path) -> Entry:
    header = read_header(path)
    context = header.number("context_length")
    window = header.number("attention.sliding_window")
    recurrent = header.number("ssm.state_size") or header.number("wkv.head_size")
    able = Able(
        attention=not window and not recurrent, forks="kept" if recurrent else "anywhere",
        internals=False,
    )  # fmt: skip
    entry = replace(
        entry, architecture=header.architecture, parameters=header.parameters, size=header.size,
        context=context, number=header.kind, able=able,
        licence=str(header.values.get("general.license", ""))[:60],
    )  # fmt: skip
    need = gguf_memory.need(header, min(context or CONTEXT, CONTEXT)).total
    missing = _missing_engine()
    return replace(_fitted(entry, "as it is", need), reason=missing or None)


@cache
def _missing_engine() -> str:
    from importlib.util import find_spec

    lacking = [n for n in ("xllamacpp", "cffi") if find_spec(n) is None]
    return f'needs the extra: pip install "tokenscope[gguf]" (no {lacking[0]})' if lacking else ""


def _folder(entry: Entry, path: Path) -> Entry:
    checkpoint = inspect(path)
    shape = hf_memory.shape_of(checkpoint)
    config = checkpoint.config
    names = config.get("architectures") or [config.get("model_type", "")]
    quantised = config.get("quantization_config")
    number = ", ".join(d.lower() for d in checkpoint.dtypes)
    if isinstance(quantised, dict):
        number = f"{quantised.get('quant_method', 'quantised')} ({number})"
    entry = replace(
        entry, architecture=str(names[0])[:80], parameters=shape.values,
        size=sum(w.stat().st_size for w in checkpoint.weights), context=shape.context,
        number=number, licence=_licence(path), able=_able(checkpoint),
    )  # fmt: skip
    context = min(shape.context or CONTEXT, CONTEXT)
    room_now = room.free()
    for way in ("float32", "bfloat16"):
        need = hf_memory.need(shape, way, context).total
        if need <= room_now:
            break
    return _fitted(entry, way, need)


def _fitted(entry: Entry, way: str, need: int) -> Entry:
    left = room.free()
    fits = need <= left
    told = f"needs about {need / 1e9:.1f} GB {way if entry.form == 'gguf' else 'as ' + way}"
    return replace(
        entry, way=way, need=need, fits=fits, why=f"{told}; {left / 1e9:.1f} GB are free"
    )


def _able(checkpoint: Checkpoint) -> Able:
    layers = hf_memory.attention_layers(checkpoint.config)
    forks = "kept"
    with suppress(Exception):  # a broken config can raise anything; loading says what
        from transformers import AutoConfig

        from tokenscope.backends.hf.cache import plain_layers

        config = AutoConfig.from_pretrained(
            checkpoint.path, local_files_only=True, trust_remote_code=False
        )
        forks = "anywhere" if plain_layers(config) is not None else "kept"
    template = (checkpoint.path / "chat_template.jinja").is_file()
    return Able(attention=layers > 0, forks=forks, chat=template or _has_template(checkpoint.path))


def _has_template(folder: Path) -> bool:
    from tokenscope.backends.hf import chat

    try:
        return chat.find_template(folder) is not None
    except TokenScopeError:
        return False


def _licence(folder: Path) -> str:
    """As the card's head states it, or by the first words of a licence file; "" if neither."""
    try:
        card = folder / "README.md"
        if card.is_file():
            with open(card, encoding="utf-8", errors="replace") as file:
                head = file.read(20_000)
            if head.startswith("---") and (found := LICENCE.search(head.split("\n---", 1)[0])):
                return found.group(1).lower()
        for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
            if (folder / name).is_file():
                with open(folder / name, encoding="utf-8", errors="replace") as file:
                    text = file.read(400)
                return next((n for begin, n in TEXTS if begin in text), "see its LICENSE file")
    except OSError:
        pass
    return ""
