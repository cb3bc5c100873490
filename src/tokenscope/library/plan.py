"""What fits, said before anything is loaded: each way of loading, its peak, and which is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenscope.backends import room
from tokenscope.backends.gguf import memory as gguf_memory
from tokenscope.backends.gguf.header import read_header
from tokenscope.backends.hf import memory as hf_memory
from tokenscope.backends.hf.checkpoint import Checkpoint, inspect
from tokenscope.backends.hf.offload import seconds_a_pass
from tokenscope.backends.hf.way import CONTEXT, DISK, DTYPES, SHARE
from tokenscope.backends.need import Need
from tokenscope.errors import ModelError
from tokenscope.library import fetched

WHY = {
    "float32": "exact, and the fast choice on a CPU",
    "bfloat16": "half the memory; numbers carry an error bar",
    "int8": "a quarter of the memory; what rounding costs is measured at the first load",
    DISK: "float32 with the layers read from the disk at every pass",
    "gguf": "as it is, through llama.cpp; no explanations that need the inside",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One way of loading: the peak of the process in bytes, by parts; ``fits``: what the model
    adds is free now (or below the ceiling)."""

    way: str
    need: Need
    fits: bool
    why: str
    options: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``chosen``: the way that is taken, None when nothing fits; ``seconds``: what one token takes
    at least when the layers stay on the disk, measured on these files now."""

    name: str
    context: int
    free: int
    ceiling: int | None
    choices: tuple[Choice, ...]
    chosen: str | None
    why: str
    seconds: float | None = None


def plan(address: str | None, context: int | None = None, ceiling: int | None = None) -> Plan:
    """Look at the headers of a folder, a GGUF file, a fetched model or a hub id in the cache.

    Raises ModelError for what cannot be loaded at all.
    """
    from tokenscope.backends.hf.load import resolve

    text = address or "bundled"
    if text.lower().startswith(("http://", "https://")):
        raise ModelError(text[:80], "is a server: its memory is not this machine's")
    path = fetched.place(text) if fetched.takes(text) else Path(text).expanduser()
    if path.is_file():
        return _file(path, context, ceiling)
    return _folder(inspect(path if path.is_dir() else resolve(text)), context, ceiling)


def _fits(need: Need, ceiling: int | None, free: int) -> bool:
    if ceiling is not None:
        return need.total <= ceiling
    return need.model - need.packed <= SHARE * free


def _file(path: Path, context: int | None, ceiling: int | None) -> Plan:
    header, free = read_header(path), room.free()
    tokens = context or min(header.number("context_length") or CONTEXT, CONTEXT)
    need = gguf_memory.need(header, tokens)
    fits = _fits(need, ceiling, free)
    choice = Choice("gguf", need, fits, WHY["gguf"], "")
    why = "it fits" if fits else _too_much([choice], ceiling, free)
    return Plan(path.stem, tokens, free, ceiling, (choice,), "gguf" if fits else None, why)


def _folder(checkpoint: Checkpoint, context: int | None, ceiling: int | None) -> Plan:
    shape, free = hf_memory.shape_of(checkpoint), room.free()
    tokens = context or min(shape.context or CONTEXT, CONTEXT)
    choices = []
    for way in ("float32", "bfloat16", "int8"):
        need = hf_memory.need(shape, way, tokens)
        choices.append(Choice(way, need, _fits(need, ceiling, free), WHY[way], f"--dtype {way}"))
    least = hf_memory.least(shape, "float32", tokens)
    table = shape.embedding * 4
    low = Need(least.base, table, 0, least.cache, least.work)
    size = low.total if ceiling is None else max(low.total, ceiling)
    fits = low.total <= (ceiling if ceiling is not None else SHARE * free)
    choices.append(Choice(DISK, low, fits, WHY[DISK], f"--max-memory {size / 1e6:.0f}MB"))
    chosen = next((c for c in choices if c.fits and (c.way != DISK or ceiling)), None)
    seconds = seconds_a_pass(checkpoint, DTYPES["float32"])
    if chosen is None:
        why = _too_much(choices, ceiling, free)
    elif chosen is choices[0]:
        why = "the widest form fits"
    else:
        why = f"{choices[choices.index(chosen) - 1].way} does not fit"
    name = checkpoint.path.name
    return Plan(name, tokens, free, ceiling, tuple(choices), chosen.way if chosen else None, why,
                seconds)  # fmt: skip


def _too_much(choices: list[Choice], ceiling: int | None, free: int) -> str:
    if ceiling is not None:
        return f"nothing stays below {ceiling / 1e9:.2f} GB"
    rest = ""
    if choices[-1].fits:
        rest = f"; {choices[-1].options} would read the layers from the disk at every pass"
    return f"nothing fits into the {free / 1e9:.1f} GB that are free: it would swap{rest}"
