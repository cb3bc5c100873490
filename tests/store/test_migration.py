"""From the layout of schema 1 (a branch's file repeats its parent's rows) to today's."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from bench.crash import killed_migrations
from tokenscope.store import Store, journal
from tokenscope.store.database import FILE, connect
from tokenscope.store.migrations import m001_initial, same
from tokenscope.trace import Alternatives, Attention, Column, Origin, Tokens, Trace

TREE = {"aa": (None, 0, "def f(x):"), "bb": ("aa", 6, "def f(y, z"), "cc": ("bb", 8, "def f(y,\n")}


def trace(text: str) -> Trace:
    """Values that depend on the token and its place alone, so that branches share them."""
    n = len(text)
    place = np.arange(n, dtype=np.float32)
    rows = [np.full(t, 1 / t, np.float16) for t in range(1, n)]
    return Trace(
        Tokens.of([ord(c) for c in text], [c.encode() for c in text]), 3,
        {"entropy": Column("entropy", place), "rank": Column("rank", place * 2, "bound")},
        Alternatives(
            np.array([[ord(c), 120] for c in text]), np.full((n, 2), -1.0),
            {**{ord(c): c.encode() for c in text}, 120: b"x"}, {},
        ),
        Attention("full", (0,), 1, 1, np.concatenate(rows)),
        Origin(model="m", model_digest="d"), "length", "python",
    )  # fmt: skip


def old_head(t: Trace) -> dict[str, Any]:
    """The header of format 1."""
    assert t.alternatives is not None
    head = {
        "format": 1, "n_prompt": t.n_prompt, "finish": t.finish, "language": t.language,
        "labels": {}, "columns": {n: c.quality for n, c in t.columns.items()},
        "origin": t.origin.to_json(),
        "pieces": {str(k): base64.b64encode(v).decode() for k, v in t.alternatives.pieces.items()},
        "piece_labels": {},
    }  # fmt: skip
    if t.attention is not None:
        head["attention"] = {"form": "full", "layers": [0], "heads": 1, "first": 1}
    return head


def old_arrays(t: Trace) -> dict[str, Any]:
    """The arrays of format 1."""
    assert t.alternatives is not None
    arrays = {
        "ids": t.ids, "offsets": t.tokens.offsets, "data": np.frombuffer(t.tokens.data, np.uint8),
        "alternatives.ids": t.alternatives.ids, "alternatives.logprobs": t.alternatives.logprobs,
        **{f"column.{n}": c.values for n, c in t.columns.items()},
    }  # fmt: skip
    if t.attention is not None:
        arrays["attention.weights"] = np.asarray(t.attention.weights)
    return arrays


def old_file(t: Trace) -> bytes:
    """The file that schema 1 wrote: everything, with the format-1 header."""
    return save(old_arrays(t), metadata={"head": json.dumps(old_head(t))})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return old_folder(tmp_path / "data")


def old_folder(folder: Path) -> Path:
    """A data folder of schema 1 with three generations, and one branch that shares nothing."""
    (folder / "traces").mkdir(parents=True)
    (folder / FILE).touch()
    c = connect(folder / FILE)
    m001_initial(c, folder)
    c.execute("INSERT INTO sessions VALUES ('s', 'title', '2024', '2024', NULL)")
    other = replace(trace("def g()"), columns={}, alternatives=None, attention=None)
    made = {**{n: (p, at, trace(t)) for n, (p, at, t) in TREE.items()}, "dd": ("aa", 4, other)}
    for i, (name, (parent, at, t)) in enumerate(made.items()):
        if name == "dd":  # its numbers were measured anew: it must be left whole
            t = trace("def g()").with_column("entropy", np.zeros(7, np.float32))
        status = "kept" if name == "cc" else "done"
        c.execute(
            "INSERT INTO nodes VALUES (?, 's', ?, ?, '', '', ?, 'length', 'plain', ?, 1, '{}', 1,"
            " NULL, NULL, NULL)", (name, parent, at, status, f"2024-{i}"),
        )  # fmt: skip
        (folder / "traces" / f"{name}.safetensors").write_bytes(old_file(t))
    c.execute("PRAGMA user_version = 1")
    c.close()
    return folder


def check(folder: Path) -> None:
    """Everything is there, bit for bit, and a branch's file holds its own rows."""
    store = Store(folder)
    rows = {n.id: n for n in store.nodes("s")}
    assert set(rows) == {"aa", "bb", "cc", "dd"}
    assert rows["cc"].status == "interrupted"
    for name, (parent, at, text) in TREE.items():
        assert (rows[name].parent, rows[name].at, rows[name].model) == (parent, at, "m")
        found = store.trace(name)
        assert same(found, trace(text)), name
        assert found.attention is not None
        own = store._shelf.own(name)
        assert own.start == at
    assert store.trace("dd").column("entropy").tolist() == [0] * 7
    assert store._shelf.own("dd").start == 0
    store.close()


def test_old_folders_are_brought_up_to_date(old: Path) -> None:
    before = sum(p.stat().st_size for p in (old / "traces").iterdir())
    check(old)
    assert sum(p.stat().st_size for p in (old / "traces").iterdir()) < before
    check(old)


def test_a_migration_killed_anywhere_is_begun_again(old: Path, tmp_path: Path) -> None:
    """The process dies (os._exit) before its nth call that changes the disk, for every n."""
    assert killed_migrations(old, tmp_path / "copy", check) >= 10


def test_a_journal_of_schema_1_is_read(tmp_path: Path) -> None:
    """Its records: length and crc32 before a safetensors body, all columns in one array."""
    path = tmp_path / "j"
    empty = replace(trace("def").cut(0), attention=None, finish="")
    with open(path, "wb") as file:
        for start, t in (
            (0, empty),
            (0, replace(trace("def"), attention=None)),
            (3, replace(trace("(xy").cut(2), attention=None, n_prompt=0)),
        ):
            head = {**old_head(t), "start": start, "names": list(t.columns)}
            arrays = {k: v for k, v in old_arrays(t).items() if not k.startswith("column")}
            arrays["column."] = np.stack([c.values for c in t.columns.values()])
            body = save(arrays, metadata={"head": json.dumps(head)})
            file.write(struct.pack("<II", len(body), zlib.crc32(body)) + body)
        file.write(b"torn")
    held = journal.read(path)
    assert held.cut == 4
    made = held.after(None)
    assert (made.text, made.n_prompt, made.origin.model, made.language) == (
        "def(x", 3, "m", "python",
    )  # fmt: skip
    assert made.columns["rank"].quality == "bound"
    assert made.column("entropy").tolist() == [0, 1, 2, 0, 1]
