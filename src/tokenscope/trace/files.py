"""Traces as files and as bytes: one format for ``trace.save`` and for the store.

What a file holds is checked against itself before any of it is used: known arrays only, each of
the type and shape that follow from T tokens, K alternatives, L layers and H heads.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tokenscope import disk
from tokenscope.errors import InputError
from tokenscope.trace import container, zipped
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention, pairs
from tokenscope.trace.columns import Quality
from tokenscope.trace.container import Array, Arrays, Source
from tokenscope.trace.join import Fragment, Part, join
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import VIEWS, Finish, Trace
from tokenscope.trace.tokens import Tokens

FORMAT = 2
COLUMN = "column."
ATTENTION = "attention."
# attention below this size is read at once: thousands of small traces then hold no open files
AT_ONCE = 1 << 20


# --- writing -----------------------------------------------------------------------------------
def content(part: Fragment) -> tuple[dict[str, Any], dict[str, Sequence[Array]]]:
    """JSON header and arrays of consecutive tokens; :func:`part_of` is the inverse."""
    tokens, alternatives, attention = part.tokens, part.alternatives, part.attention
    head: dict[str, Any] = {
        "format": FORMAT,
        "start": part.start,
        "prompt": part.prompt,
        "labels": {str(k): v for k, v in tokens.labels.items()},
        "columns": {n: part.quality.get(n, "exact") for n in part.columns},
    }
    arrays: dict[str, Sequence[Array]] = {
        "ids": [tokens.ids],
        "offsets": [tokens.offsets],
        "data": [np.frombuffer(tokens.data, np.uint8)],
    }
    if part.columns:  # one array of all columns: a third of the time of one array each
        arrays["columns"] = [np.stack(list(part.columns.values()))]
    if alternatives is not None:
        arrays["alternatives.ids"] = [alternatives.ids]
        arrays["alternatives.logprobs"] = [alternatives.logprobs]
        ids = np.unique(alternatives.ids).tolist()  # a running table knows more than occur here
        table = {i: alternatives.pieces[i] for i in ids if i in alternatives.pieces}
        known = Tokens.of(list(table), list(table.values()))
        arrays["pieces.ids"] = [known.ids]
        arrays["pieces.offsets"] = [known.offsets]
        arrays["pieces.data"] = [np.frombuffer(known.data, np.uint8)]
        head["piece_labels"] = {
            str(i): alternatives.labels[i] for i in ids if i in alternatives.labels
        }
    if attention is not None:
        head["attention"] = {
            "form": attention.form, "layers": list(attention.layers), "heads": attention.heads,
            "first": attention.first,
        }  # fmt: skip
        blocks = attention.blocks()
        for name in attention.arrays():
            arrays[ATTENTION + name] = [b.arrays()[name] for b in blocks]
    return head, arrays


def rows(trace: Trace, start: int = 0) -> Part:
    """A trace from token ``start`` on, without where it comes from. Attention is not copied."""
    n, attention = len(trace), trace.attention
    return Part(
        start,
        trace.tokens.slice(start, n),
        {name: c.values[start:] for name, c in trace.columns.items()},
        trace.alternatives.slice(start, n) if trace.alternatives is not None else None,
        attention.between(start, n) if attention is not None and start else attention,
        quality={name: c.quality for name, c in trace.columns.items()},
    )


def whole(trace: Trace, start: int = 0) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a trace from token ``start`` on, with where it comes from."""
    head, arrays = content(rows(trace, start))
    return {
        **head, "n_prompt": trace.n_prompt, "finish": trace.finish, "language": trace.language,
        "origin": trace.origin.to_json(),
    }, arrays  # fmt: skip


@VIEWS.register("bytes")
def to_bytes(trace: Trace) -> bytes:
    """The file that ``save`` would write, in memory."""
    return b"".join(container.pack(*whole(trace)))


@VIEWS.register("save")
def save(trace: Trace, path: str | Path) -> Path:
    """Write it whole or not at all (temporary name, fsync, rename). Raises StoreError."""
    target = Path(path)
    disk.write_whole(target, container.pack(*whole(trace)), 0o666)  # as the user's umask says
    return target


# --- reading -----------------------------------------------------------------------------------
def read(path: str | Path) -> Trace:
    """Read what ``save`` wrote, today or in format 1. Raises InputError: the file and the cause.

    Large attention stays in the file until it is asked for.
    """
    source = Source.open(Path(path))
    if source.size >= 4 and bytes(source.read(0, 4)) == zipped.MAGIC:
        return trace_of_part(*checked(*zipped.read(Path(path)), str(path)), str(path))
    return from_source(source)


@VIEWS.register("from_bytes")
def from_bytes(data: bytes) -> Trace:
    """Read what ``to_bytes`` made. Raises InputError."""
    return from_source(Source("trace", data))


def from_source(source: Source) -> Trace:
    """The trace in a file. Raises InputError."""
    return trace_of_part(*checked(*container.unpack(source), source.name), source.name)


def checked(
    head: Mapping[str, Any], arrays: Mapping[str, Array], name: str
) -> tuple[Mapping[str, Any], Part]:
    """Header and part of what was read. Raises InputError that names file and place."""
    try:
        return head, part_of(head, arrays)
    except InputError as error:
        raise InputError(name, str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(name, f"its header is not complete ({type(error).__name__})") from error


def trace_of_part(
    head: Mapping[str, Any], part: Part, name: str, base: Trace | None = None
) -> Trace:
    """The trace that a header describes: the part, after the rows of its parent if it has one."""
    if part.start != (len(base) if base is not None else 0):
        raise InputError(name, f"holds a branch from token {part.start} on, without its parent")
    try:
        origin = _origin(head["origin"])
        finish, language, n_prompt = head["finish"], head.get("language", ""), head["n_prompt"]
        if finish not in get_args(Finish) or type(language) is not str or type(n_prompt) is not int:
            raise InputError("trace", "finish, language or n_prompt make no sense")
        total = part.start + len(part.tokens)
        if not 0 <= n_prompt <= total:
            raise InputError("n_prompt", f"must lie in 0..{total}")
        made = join(base, [part], n_prompt=n_prompt, origin=origin, language=language)
        return Trace(
            made.tokens, n_prompt, made.columns, made.alternatives, made.attention, origin,
            finish, language,
        )  # fmt: skip
    except InputError as error:
        raise InputError(name, str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(name, f"its header is not complete ({type(error).__name__})") from error


def part_of(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> Part:
    """The inverse of :func:`content`. Raises InputError, KeyError or TypeError."""
    if head.get("format") not in (1, FORMAT):
        raise InputError("format", f"{str(head.get('format'))[:20]!r} is not readable here")
    take = _Taker(arrays)
    n = len(arrays["ids"])
    data = take("data", "u1", (None,)).tobytes()
    labels = _labels(head["labels"], range(n))
    tokens = Tokens(take("ids", "<i4", (n,)), data, take("offsets", "<i8", (n + 1,)), labels)
    if any(int(tokens.offsets[i]) != int(tokens.offsets[i + 1]) for i in labels):
        raise InputError("labels", "a special token has no bytes")
    quality = dict(head["columns"])
    if not all(q in get_args(Quality) for q in quality.values()):
        raise InputError("columns", "a quality that is not known")
    if head["format"] == 1:
        columns = {name: take(COLUMN + name, "<f4", (n,)) for name in quality}
    else:
        rows = take("columns", "<f4", (len(quality), n)) if quality else ()
        columns = dict(zip(quality, rows, strict=True))
    part = Part(
        _count(head.get("start", 0)), tokens, columns, _alternatives(head, take, n),
        _attention(head, take, n), bool(head.get("prompt", False)), quality,
    )  # fmt: skip
    if set(arrays) - take.taken:
        raise InputError("arrays", "one that is no part of a trace")
    return part


class _Taker:
    """Takes arrays out by name, each of a stated type and shape (None: any length)."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self.taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def lazy(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Array:
        found = self._arrays.get(name)
        if found is None:
            raise InputError(name, "is missing")
        self.taken.add(name)
        fits = len(found.shape) == len(shape) and all(
            want is None or want == got for want, got in zip(shape, found.shape, strict=True)
        )
        if found.dtype != np.dtype(dtype) or not fits:
            raise InputError(name, f"is {found.dtype} {found.shape}, not {dtype} {shape}")
        return found

    def __call__(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        # a copy: what is kept must not hold on to the whole file
        return np.array(self.lazy(name, dtype, shape))


def _alternatives(head: Mapping[str, Any], take: _Taker, n: int) -> Alternatives | None:
    if "alternatives.ids" not in take:
        return None
    ids = take("alternatives.ids", "<i4", (n, None))
    if head["format"] == 1:
        pieces = {
            int(k): base64.b64decode(v, validate=True) for k, v in head.get("pieces", {}).items()
        }
    else:
        known = take("pieces.ids", "<i4", (None,))
        data = take("pieces.data", "u1", (None,)).tobytes()
        table = Tokens(known, data, take("pieces.offsets", "<i8", (len(known) + 1,)))
        pieces = dict(zip(known.tolist(), table.pieces(), strict=True))
    return Alternatives(
        ids, take("alternatives.logprobs", "<f4", ids.shape), pieces,
        _labels(head.get("piece_labels", {})),
    )  # fmt: skip


def _attention(head: Mapping[str, Any], take: _Taker, n: int) -> Attention | None:
    about = head.get("attention")
    if about is None:
        return None
    form, heads, first = about["form"], _count(about["heads"]), _count(about["first"])
    layers = tuple(_count(i) for i in about["layers"])
    end = _count(head.get("start", 0)) + n
    if form == "full":
        per = len(layers) * heads
        made = Attention(
            "full", layers, heads, first, take.lazy("attention.weights", "<f2", (None,))
        )
        rows = pairs(first, first + made.own_count) * per
        if first < 1 or rows != made.weights.size:
            raise InputError("attention", "its size does not follow from tokens, layers and heads")
    elif form == "top":
        weights = take.lazy("attention.weights", "<f2", (None, len(layers), heads, None))
        made = Attention(
            "top", layers, heads, first, weights,
            take.lazy("attention.keys", "<u2", weights.shape),
            take.lazy("attention.sink", "<f2", weights.shape[:3]),
            take.lazy("attention.rest", "<f2", weights.shape[:3]),
        )  # fmt: skip
    else:
        raise InputError("attention", "a form that is not known")
    if first < 1 or first + made.count > end:
        raise InputError("attention", f"tokens {first}..{first + made.count - 1} of {end}")
    return made.loaded() if made.nbytes <= AT_ONCE else made


def _labels(given: Mapping[str, Any], known: range | None = None) -> dict[int, str]:
    made = {int(k): v for k, v in given.items()}
    if not all(type(v) is str for v in made.values()):
        raise InputError("labels", "must be texts")
    if known is not None and not all(k in known for k in made):
        raise InputError("labels", f"a token outside 0..{len(known) - 1}")
    return made


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise InputError("header", "a number that makes no sense")
    return value


def _origin(data: Mapping[str, Any]) -> Origin:
    made, plain = Origin.from_json(data), Origin()
    for name in Origin.__dataclass_fields__:
        value, kind = getattr(made, name), type(getattr(plain, name))
        if kind in (str, dict, tuple) and type(value) is not kind:
            raise InputError(f"origin.{name}", f"must be a {kind.__name__}")
    for name in ("seed", "threads"):
        if type(getattr(made, name)) not in (int, type(getattr(plain, name))):
            raise InputError(f"origin.{name}", "must be a whole number")
    return made
