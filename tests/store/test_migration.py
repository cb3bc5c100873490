"""From the layout of schema 1 (a branch's file repeats its parent's rows) to today's."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from bench.crash import killed_migrations
from tokenscope.store import Store
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


def old_file(t: Trace) -> bytes:
    """The file that schema 1 wrote: everything, with the format-1 header."""
    assert t.alternatives is not None and t.attention is not None
    head = {
        "format": 1, "n_prompt": t.n_prompt, "finish": t.finish, "language": t.language,
        "labels": {}, "columns": {n: c.quality for n, c in t.columns.items()},
        "origin": t.origin.to_json(),
        "pieces": {str(k): base64.b64encode(v).decode() for k, v in t.alternatives.pieces.items()},
        "piece_labels": {},
        "attention": {"form": "full", "layers": [0], "heads": 1, "first": 1},
    }  # fmt: skip
    arrays = {
        "ids": t.ids, "offsets": t.tokens.offsets, "data": np.frombuffer(t.tokens.data, np.uint8),
        "alternatives.ids": t.alternatives.ids, "alternatives.logprobs": t.alternatives.logprobs,
        "attention.weights": np.asarray(t.attention.weights),
        **{f"column.{n}": c.values for n, c in t.columns.items()},
    }  # fmt: skip
    return save(arrays, metadata={"head": json.dumps(head)})


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
