"""Sessions and their trees: kept, renamed, deleted, brought back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tokenscope.errors import InputError, NotFound, StoreDamaged
from tokenscope.store import NodeRow, Part, Store
from tokenscope.trace import Alternatives, Origin, Tokens, Trace


def part(start: int, text: str, prompt: bool = False) -> Part:
    """A token per character, each with logprob -1 and two alternatives."""
    n = len(text)
    return Part(
        start,
        Tokens.of([ord(c) for c in text], [c.encode() for c in text]),
        {"logprob": np.full(n, -1, np.float32), "surprisal": np.ones(n, np.float32)},
        Alternatives(
            np.array([[ord(c), 120] for c in text]), np.full((n, 2), -1.0), {120: b"x"}, {}
        ),
        None,
        prompt,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "data")
    yield opened
    opened.close()


def grow(store: Store, session: str, text: str, parent: NodeRow | None = None) -> NodeRow:
    """A finished branch; a fork keeps the first 3 tokens of its parent."""
    shared = store.trace(parent.id).cut(3) if parent else None
    writing = store.begin(
        session, Origin(model="m"), parent=parent.id if parent else None,
        at=3 if parent else 0, shared=shared,
    )  # fmt: skip
    if parent is None:
        writing.append(part(0, text[:3], prompt=True))
    writing.append(part(3, text[3:]))
    return writing.finish(None, "length")


def test_a_tree_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcXY", root)
    store.rename_node(child.id, "mine")
    store.annotate(child.id, note="look\nagain", starred=True)
    store.annotate(child.id)  # nothing said, nothing changed
    store.close()

    store = Store(tmp_path)
    assert store.kept == 0
    assert [(n.id, n.parent, n.at, n.title) for n in store.nodes(session)] == [
        (root.id, None, 0, ""),
        (child.id, root.id, 3, "mine"),
    ]
    trace = store.trace(child.id)
    assert trace.text == "abcXY"
    assert (trace.n_prompt, trace.finish, trace.origin.model) == (3, "length", "m")
    assert trace.alternatives is not None
    assert trace.alternatives.pieces[120] == b"x"
    row = store.node(child.id)
    assert (row.own_tokens, row.own_logprob, row.own_surprisal) == (2, -2.0, 1.0)
    assert (row.turn_logprob, row.note, row.starred) == (-1.0, "look\nagain", True)
    first = store.node(root.id)
    assert (first.turn_logprob, first.note, first.starred) == (None, "", False)
    assert row.excerpt == "XY"
    assert store.sessions()[0].title == "abcdef"  # named after what stands in it
    assert (store.sessions()[0].branches, store.sessions()[0].tokens) == (2, 5)
    store.close()


def test_the_newest_session_comes_first(store: Store) -> None:
    a, b = store.new_session("a").id, store.new_session("b").id
    store.rename_session(a, "a again")
    assert [s.title for s in store.sessions()] == ["a again", "b"]
    store.delete_session(a)
    assert [s.id for s in store.sessions()] == [b]
    with pytest.raises(NotFound):
        store.session(a)
    assert store.restore_session(a).title == "a again"


def test_deleting_a_branch_takes_what_grew_from_it(store: Store) -> None:
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcX", root)
    grand = grow(store, session, "abcXYZ", child)
    other = grow(store, session, "abcQ", root)
    assert set(store.delete_node(child.id)) == {child.id, grand.id}
    assert [n.id for n in store.nodes(session)] == [root.id, other.id]
    with pytest.raises(NotFound):
        store.trace(grand.id)
    with pytest.raises(InputError, match="above"):
        store.restore_node(grand.id)
    store.restore_node(child.id)
    assert len(store.nodes(session)) == 4


def test_an_undo_brings_back_its_own_deletion_only(store: Store) -> None:
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcX", root)
    grand = grow(store, session, "abcXYZ", child)
    store.delete_node(grand.id)
    store.delete_node(child.id)
    with pytest.raises(InputError, match="deleted"):
        store.restore_node(grand.id)
    store.restore_node(child.id)
    assert [n.id for n in store.nodes(session)] == [root.id, child.id]
    store.restore_node(grand.id)
    assert len(store.nodes(session)) == 3


def test_purge_removes_what_is_deleted_and_nothing_else(store: Store) -> None:
    session, gone = store.new_session("a").id, store.new_session("b").id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcX", root)
    grow(store, gone, "abcdef")
    store.delete_node(child.id)
    store.delete_session(gone)
    assert store.purge().branches == 0  # deleted just now
    size = sum(p.stat().st_size for p in (store.path / "traces").iterdir())
    would = store.purge(timedelta(0), dry_run=True)
    assert (would.sessions, would.branches) == (1, 2)
    assert 0 < would.bytes < size
    assert store.purge(timedelta(0)) == would
    assert [p.name for p in (store.path / "traces").iterdir()] == [f"{root.id}.safetensors"]
    for lost in (child.id, gone):
        with pytest.raises(NotFound):
            store.restore_node(lost)
    with pytest.raises(NotFound):
        store.restore_session(gone)
    assert store.trace(root.id).text == "abcdef"


def test_what_was_deleted_long_ago_goes_by_itself(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    kept, old, new = (store.new_session(t).id for t in "kon")
    for session in (kept, old, new):
        root = grow(store, session, "abcdef")
        if session == kept:
            store.delete_node(grow(store, session, "abcX", root).id)
    store.delete_session(old)
    store.delete_session(new)
    with store._database.write() as c:
        c.execute("UPDATE sessions SET deleted = '2024-01-01' WHERE id = ?", (old,))
        c.execute("UPDATE nodes SET deleted = '2024-01-01' WHERE deleted IS NOT NULL")
    store.close()
    store = Store(tmp_path / "data", retention=None)
    assert len(list((store.path / "traces").iterdir())) == 4
    store.close()
    store = Store(tmp_path / "data")
    assert len(list((store.path / "traces").iterdir())) == 2
    with pytest.raises(NotFound):
        store.restore_session(old)
    assert store.restore_session(new).branches == 1
    store.close()


def test_what_a_run_needs_is_not_purged(store: Store) -> None:
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    writing = store.begin(
        session, Origin(), parent=root.id, at=3, shared=store.trace(root.id).cut(3),
        request={"prompt": "abc"},
    )  # fmt: skip
    writing.append(part(3, "X"))
    assert store.delete_session(session) == [writing.node.id]  # whose run is to be stopped
    assert store.purge(timedelta(0)).branches == 0
    writing.append(part(4, "Y"))
    writing.finish(None, "cancelled")
    store.restore_session(session)
    assert store.trace(writing.node.id).text == "abcXY"
    row = store.node(writing.node.id)
    assert (row.request, row.model) == ({"prompt": "abc"}, "")
    store.delete_session(session)
    assert store.purge(timedelta(0)).branches == 2
    assert not list((store.path / "traces").iterdir())


def test_a_damaged_parent_costs_its_own_rows_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcXY", root)
    store.close()
    (tmp_path / "data" / "traces" / f"{root.id}.safetensors").write_bytes(b"damaged")
    store = Store(tmp_path / "data")
    with pytest.raises(StoreDamaged):
        store.trace(root.id)
    trace = store.trace(child.id)
    assert [t.text for t in trace.tokens] == ["<lost>"] * 3 + ["X", "Y"]
    assert trace.column("logprob")[3:].tolist() == [-1, -1]
    store.close()


def test_a_running_branch_can_be_read_and_grown_from(store: Store) -> None:
    session = store.new_session().id
    writing = store.begin(session, Origin())
    writing.append(part(0, "abc", prompt=True))
    writing.append(part(3, "d"))
    assert store.trace(writing.node.id).text == "abcd"
    child = grow(store, session, "abcX", writing.node)
    writing.append(part(4, "e"))
    assert writing.finish(None, "cancelled").summary["tokens"] == 5
    assert store.trace(child.id).text == "abcX"


def test_a_parent_may_leave_the_cache_at_any_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    child = grow(store, session, "abcXY", root)
    store._cache.drop(child.id)
    held = store._cache.get

    def last_look(node: str) -> Trace | None:
        found = held(node)
        store._cache.drop(node)  # as when another reader fills the cache
        return found

    monkeypatch.setattr(store._cache, "get", last_look)
    assert store.trace(child.id).text == "abcXY"


def test_what_is_shared_need_not_come_from_the_parent(store: Store) -> None:
    """A fork whose numbers had to be measured anew is kept whole."""
    session = store.new_session().id
    root = grow(store, session, "abcdef")
    writing = store.begin(session, Origin(), parent=root.id, at=3)
    writing.append(part(0, "abcX"))
    assert store.trace(writing.node.id).text == "abcX"
    row = writing.finish(None, "length")
    assert (row.at, row.own_tokens) == (3, 1)


def test_an_excerpt_is_one_clean_line(store: Store) -> None:
    session = store.new_session().id
    row = grow(store, session, "   \n\t a\u202eb\x1b[31m\tc\nd")
    assert row.excerpt == "a\ufffdb\ufffd[31m c"


@pytest.mark.parametrize("name", ["", "none", "x" * 5000, "\0", "' OR 1=1 --", "\U0001f600"])
def test_ids_of_nothing(store: Store, name: str) -> None:
    for ask in (store.session, store.node, store.trace, store.nodes, store.restore_session,
                store.restore_node, store.delete_node, store.delete_session):  # fmt: skip
        with pytest.raises(NotFound):
            ask(name)
