"""A session as a file: what comes back is what went out, and nothing bad comes in."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenscope.errors import InputError
from tokenscope.runs.model import Model
from tokenscope.store import Store
from tokenscope.store.shared import MAGIC, pack, take_in, unpack


@pytest.fixture
def filled(tmp_path: Path, bundled: Model) -> tuple[Store, str]:
    """A session of a root and two branches, one of them of the other."""
    store = Store(tmp_path / "one")
    session = store.new_session("area <b>").id
    root = bundled.generate("def area(w, h):\n", max_new_tokens=5)
    made = store.begin(session, root.origin, language="python")
    first = made.finish(root, root.finish).id
    at = root.n_prompt + 2
    branch = bundled.fork(root, at, token="x", max_new_tokens=3)
    parent = store.begin(session, branch.origin, parent=first, at=at, shared=branch.cut(at))
    second = parent.finish(branch, branch.finish).id
    deeper = bundled.fork(branch, at + 1, token="y", max_new_tokens=2)
    third = store.begin(
        session, deeper.origin, parent=second, at=at + 1, shared=deeper.cut(at + 1)
    ).finish(deeper, deeper.finish)  # fmt: skip
    store.annotate(third.id, "the third", "a note", True)
    return store, session


def packed(store: Store, session: str) -> bytes:
    nodes = [(n, store.trace(n.id)) for n in store.nodes(session)]
    return pack(store.session(session), nodes)


def test_everything_comes_back_in_another_store(filled: tuple[Store, str], tmp_path: Path) -> None:
    store, session = filled
    other = Store(tmp_path / "other")
    taken = take_in(other, packed(store, session))
    assert other.session(taken).title == "area <b>"
    before, after = store.nodes(session), other.nodes(taken)
    assert [n.at for n in before] == [n.at for n in after]
    place = {n.id: i for i, n in enumerate(after)}
    assert [place.get(n.parent or "") for n in after] == [None, 0, 1]
    assert (after[2].title, after[2].note, after[2].starred) == ("the third", "a note", True)
    reopened = Store(tmp_path / "other") if other.close() is None else other
    for old, new in zip(before, after, strict=True):
        a, b = store.trace(old.id), reopened.trace(new.id)
        assert list(a.ids) == list(b.ids) and a.text == b.text and a.origin == b.origin
        for name, column in a.columns.items():
            assert np.array_equal(column.values, b.columns[name].values, equal_nan=True), name
        assert old.own_logprob == pytest.approx(new.own_logprob)


def test_one_trace_is_a_session_of_one_branch(
    tmp_path: Path, bundled: Model, filled: tuple[Store, str]
) -> None:
    trace = bundled.score("x = 1\n")
    store = filled[0]
    taken = take_in(store, trace.save(tmp_path / "x.trace").read_bytes())
    (node,) = store.nodes(taken)
    assert store.trace(node.id).text == trace.text and node.parent is None


def test_what_is_no_such_file_is_refused_and_leaves_nothing(filled: tuple[Store, str]) -> None:
    store, session = filled
    data = packed(store, session)
    size = int.from_bytes(data[8:16], "little")
    head = json.loads(data[16 : 16 + size])

    def with_head(**change: object) -> bytes:
        changed = json.loads(json.dumps(head))
        for name, value in change.items():
            changed["branches"][2][name] = value
        text = json.dumps(changed).encode()
        return MAGIC + len(text).to_bytes(8, "little") + text + data[16 + size :]

    wrong = {
        "cut short": data[:-10], "longer": data + b"x", "no head": MAGIC + b"\xff" * 8 + b"{}",
        "nothing": b"", "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100), "only magic": MAGIC,
        "parent later": with_head(parent=2), "parent not a number": with_head(parent="0"),
        "starts otherwise": with_head(at=10_000), "size": with_head(size=-1),
        "title": with_head(title=["x"]), "surrogate": with_head(title="\ud800"),
        "damaged trace": data[:-400] + bytes([b ^ 0xFF for b in data[-400:-200]]) + data[-200:],
    }  # fmt: skip
    before = len(store.sessions())
    told = {}
    for name, file in wrong.items():
        try:
            take_in(store, file)
        except InputError as error:
            told[name] = str(error)
    missed = set(wrong) - set(told) - {"damaged trace"}  # numbers are numbers: that one may pass
    assert not missed
    assert len(store.sessions()) - before <= 1
    # every byte of the head and of the first header, flipped: refused or read, never anything else
    for at in [*range(8, 16 + size, 37), *range(16 + size, 16 + size + 400, 13)]:
        flipped = bytearray(data)
        flipped[at] ^= 0x41
        with suppress(InputError):
            unpack(bytes(flipped))


def test_a_trace_that_does_not_begin_as_its_parent_is_refused(
    filled: tuple[Store, str], bundled: Model
) -> None:
    store, session = filled
    rows = store.nodes(session)
    traces = [store.trace(n.id) for n in rows]
    other = bundled.score("z = 12345678 * 2 + 34567890 + 4567\n" * 2)
    file = pack(store.session(session), zip(rows, [traces[0], other, traces[2]], strict=True))
    with pytest.raises(InputError, match="does not begin as its parent"):
        unpack(file)
    assert replace(rows[0], parent=None).parent is None
