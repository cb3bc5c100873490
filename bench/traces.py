"""Tampered trace files: each is read and used, or refused with an InputError; memory stays low.

python bench/traces.py [--files 10000] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tokenscope as ts
from tokenscope.errors import TokenScopeError
from tokenscope.trace import Alternatives, Attention, Column, Origin, Tokens, Trace
from tokenscope.trace.edits import Ban, Force
from tokenscope.trace.origin import Request, Segment

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 65535, 2**31, 2**63, 10**30, 1.5, 1e300, "", "x", "exact", "full",
    "top", "F32", "\ud800", "\0", [], [0], [1, 2], [-1, 4], [2**40, 2**40], [[]], {}, {"a": 1},
    {"0": "<s>"}, {"-1": "x"}, {"x": "y"}, "A" * 5000, [[[[[[[[]]]]]]]],
)  # fmt: skip


def sample(form: str, tokens: int = 24) -> Trace:
    """A small trace with everything in it."""
    rng = np.random.default_rng(len(form))
    pieces = [bytes([97 + i % 26]) * (1 + i % 3) for i in range(tokens)]
    pieces[5] = b""
    layers, heads, k, first = (0, 2), 3, 4, 8
    attention = None
    if form == "full":
        size = sum(range(first, tokens)) * len(layers) * heads
        attention = Attention("full", layers, heads, first, rng.random(size).astype(np.float16))
    elif form == "top":
        shape = (tokens - first, len(layers), heads)
        attention = Attention(
            "top", layers, heads, first, rng.random((*shape, k)).astype(np.float16),
            rng.integers(0, first, (*shape, k)).astype(np.uint16),
            rng.random(shape).astype(np.float16), rng.random(shape).astype(np.float16),
        )  # fmt: skip
    ids = rng.integers(0, 50, (tokens, 3)).astype(np.int32)
    known = np.unique(ids).tolist()
    return Trace(
        Tokens.of(list(range(tokens)), pieces, {5: "<s>"}), 8,
        {n: Column(n, rng.random(tokens).astype(np.float32)) for n in ("entropy", "logprob")},
        Alternatives(
            ids, -rng.random((tokens, 3)), {i: b"p%d" % i for i in known}, {known[0]: "<e>"}
        ),
        attention,
        Origin(
            model="m", seed=3, edits=(Force(9, (1, 2), 7),),
            segments=(Segment(8, {"temperature": 0.5}, 3, (Ban((4,)),)),),
            request=Request(prompt="x", messages=({"role": "user", "content": "y"},)),
        ),
        "length", "python",
    )  # fmt: skip


def header(trace: Trace) -> dict[str, Any]:
    """The header that format 1 wrote."""
    head: dict[str, Any] = {
        "format": 1, "n_prompt": trace.n_prompt, "finish": trace.finish,
        "language": trace.language,
        "labels": {str(k): v for k, v in trace.tokens.labels.items()},
        "columns": {n: c.quality for n, c in trace.columns.items()},
        "origin": trace.origin.to_json(),
    }  # fmt: skip
    if (a := trace.alternatives) is not None:
        head["pieces"] = {str(k): base64.b64encode(v).decode() for k, v in a.pieces.items()}
        head["piece_labels"] = {str(k): v for k, v in a.labels.items()}
    if (b := trace.attention) is not None:
        head["attention"] = {
            "form": b.form, "layers": list(b.layers), "heads": b.heads, "first": b.first,
        }  # fmt: skip
    return head


def arrays(trace: Trace) -> dict[str, Any]:
    """The arrays that format 1 wrote."""
    made: dict[str, Any] = {
        "ids": trace.ids, "offsets": trace.tokens.offsets,
        "data": np.frombuffer(trace.tokens.data, np.uint8),
        **{f"column.{n}": c.values for n, c in trace.columns.items()},
    }  # fmt: skip
    if trace.alternatives is not None:
        made["alternatives.ids"] = trace.alternatives.ids
        made["alternatives.logprobs"] = trace.alternatives.logprobs
    if trace.attention is not None:
        made |= {f"attention.{n}": np.asarray(v) for n, v in trace.attention.arrays().items()}
    return made


def zipped(head: Any, data: dict[str, Any], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A file of format 1: a zip of trace.json and .npy arrays."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("trace.json", head if isinstance(head, bytes) else json.dumps(head))
        for name, array in data.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
    return out.getvalue()


def tampered(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Endless files that are not as they were written, each with what was done to it."""
    made = [sample(f) for f in ("top", "full", "none")]
    news = [t.to_bytes() for t in made]
    olds = [zipped(header(t), arrays(t)) for t in made]
    while True:
        trace, kind = rng.choice(made), rng.randrange(10)
        whole = bytearray(rng.choice(news + olds))
        if kind == 0:
            yield "cut", bytes(whole[: rng.randrange(len(whole))])
        elif kind == 1:
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                whole[rng.randrange(len(whole))] = rng.randrange(256)
            yield "bytes", bytes(whole)
        elif kind == 2:
            at, n = rng.randrange(len(whole)), rng.randrange(1, 64)
            yield "moved", bytes(whole[:at] + whole[at + n :] + rng.randbytes(rng.choice((0, n))))
        elif kind in (3, 4):  # a value of the new header is another one
            yield "header", reheaded(bytes(rng.choice(news)), rng)
        elif kind == 5:
            yield "old header", zipped(mutated(header(trace), rng), arrays(trace))
        elif kind in (6, 7):
            data = arrays(trace)
            name = rng.choice(list(data))
            data[name] = wrong(data[name], rng)
            yield "old arrays", zipped(header(trace), data, rng.choice((0, 8)))
        elif kind == 8:
            yield "odd zip", oddly_zipped(trace, rng)
        else:
            head = rng.choice((b"[" * 10_000, b'{"a":' * 3_000, b"NaN", b"9" * 6_000, b"\xff", b""))
            size = len(head).to_bytes(8, "little")
            yield "json", rng.choice((zipped(head, arrays(trace)), size + head + bytes(64)))


def reheaded(data: bytes, rng: random.Random) -> bytes:
    """A new-format file with one value of its header, or of the trace's in it, changed."""
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])
    if rng.random() < 0.6:
        inner = mutated(json.loads(about["__metadata__"]["head"]), rng)
        about["__metadata__"]["head"] = json.dumps(inner)
    elif rng.random() < 0.5:
        a, b = rng.sample([k for k in about if k != "__metadata__"], 2)
        about[a], about[b] = about[b], about[a]
    else:
        about = mutated(about, rng)
    text = json.dumps(about).encode()
    length = rng.choice((len(text), len(text), len(text), rng.randrange(2**63)))
    return length.to_bytes(8, "little") + text + data[8 + size :]


def mutated(value: Any, rng: random.Random) -> Any:
    """The same JSON with one place changed, removed or added."""
    whole = json.loads(json.dumps(value))
    at = whole
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return rng.choice(ODD)
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.6:
            at = at[key]
            continue
        if rng.random() < 0.2 and isinstance(at, dict):
            del at[key]
        elif rng.random() < 0.1 and isinstance(at, dict):
            at[str(rng.choice(ODD))[:50]] = rng.choice(ODD)
        else:
            at[key] = rng.choice(ODD)
        return whole


def wrong(array: Any, rng: random.Random) -> Any:
    """Another shape, type or value."""
    kind = rng.randrange(5)
    if kind == 0:
        return array.astype(rng.choice(("f8", "i2", "U3", "c16", ">i4", "?")))
    if kind == 1:
        return array.reshape(-1)[: rng.randrange(array.size + 1)]
    if kind == 2:
        return np.concatenate([array, array])
    if kind == 3:
        return array.reshape(1, *array.shape) if rng.random() < 0.5 else np.float32(1)
    changed = array.copy().reshape(-1)
    for _ in range(3):
        changed[rng.randrange(array.size)] = rng.choice((0, 1, 255, 127))
    return changed.reshape(array.shape)


def oddly_zipped(trace: Trace, rng: random.Random) -> bytes:
    """Bombs, doubles, strangers, foreign packing."""
    kind = rng.randrange(5)
    head, data = header(trace), arrays(trace)
    if kind == 0:  # consistent, and a thousand times smaller than what it unfolds to
        n = rng.choice((10_000, 3_000_000))
        head = {**header(sample("none")), "columns": {"a": "exact"}, "labels": {}, "n_prompt": 0}
        return zipped(head, {
            "ids": np.zeros(n, np.int32), "offsets": np.zeros(n + 1, np.int64),
            "data": np.zeros(0, np.uint8), "column.a": np.zeros(n, np.float32),
            "alternatives.ids": np.zeros((n, 8), np.int32),
            "alternatives.logprobs": np.zeros((n, 8), np.float32),
        })  # fmt: skip
    if kind == 1:
        return zipped(head, data, rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    out = io.BytesIO(zipped(head, data))
    with zipfile.ZipFile(out, "a") as archive:
        if kind == 2:
            archive.writestr(
                rng.choice(("../x.npy", "x.py", "more.npy", "column.z.npy")), b"\0" * 99
            )
        elif kind == 3:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("ids.npy", b"twice")
        else:
            archive.writestr("z.npy", b"\x93NUMPY\x01\x00\x0a\x00" + b"__import__(")
    return out.getvalue()


def use(path: Path) -> None:
    """Read it and do with it what people do."""
    trace = ts.read(path)
    trace.to_json()
    trace.to_pandas()
    trace.cut(len(trace) // 2)
    for t in range(min(len(trace), 50)):
        trace.origin.segment(t)
    assert Trace.from_bytes(trace.to_bytes()).ids.tolist() == trace.ids.tolist()
    for t in range(len(trace)):
        if trace.attention is not None and trace.attention.has(t):
            trace.attention.block(t)
            trace.attention.only(t)


def fuzz(files: int, seed: int, folder: Path) -> tuple[Counter[str], list[str], float]:
    """How each file ended, the raw errors, the slowest in seconds of CPU."""
    ends: Counter[str] = Counter()
    raw: list[str] = []
    slowest = 0.0
    path = folder / "t.trace"
    source = tampered(random.Random(seed))
    for i in range(files):
        what, data = next(source)
        path.write_bytes(data)
        start = time.process_time()
        try:
            use(path)
            ends["read"] += 1
        except TokenScopeError as error:
            ends[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - what this looks for
            ends["raw"] += 1
            raw.append(f"{i} {what}: {type(error).__name__}: {str(error)[:100]}")
        slowest = max(slowest, time.process_time() - start)
    return ends, raw, slowest


def main() -> int:
    """Run and print. Exit code 1 when anything raw came up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ends, raw, slowest = fuzz(asked.files, asked.seed, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "files": asked.files, "ends": dict(ends), "raw": raw[:20],
        "slowest_cpu_s": round(slowest, 3), "peak_mib": round(peak),
    }  # fmt: skip
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")
    return 1 if raw else 0


if __name__ == "__main__":
    sys.exit(main())
