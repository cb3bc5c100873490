"""Crashes, torn writes, two processes, newer and damaged databases."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenscope as ts
from tokenscope.errors import StoreDamaged, StoreGone, StoreLocked, StoreNewer
from tokenscope.store import Part, Store, journal
from tokenscope.store.database import FILE, connect
from tokenscope.store.migrations import STEPS, migrate
from tokenscope.trace import Attention, Origin, Tokens, Trace
from tokenscope.trace.join import LOST

TEXT = "def f(x):\n    return"


def parts(text: str) -> list[Part]:
    """One part per character, with an attention row for every token but the first."""
    return [
        Part(
            i, Tokens.of([ord(c)], [c.encode()]), {"entropy": np.array([i], np.float32)}, None,
            Attention("full", (0,), 1, i, np.ones(i, np.float16)) if i else None, i < 9,
        )
        for i, c in enumerate(text)
    ]  # fmt: skip


def test_a_crash_keeps_what_was_written(tmp_path: Path) -> None:
    """The process dies without a word (os._exit: no flush, no close, as after kill -9)."""
    script = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from test_safety import TEXT, parts
from tokenscope.store import Store
from tokenscope.trace import Origin
store = Store({str(tmp_path)!r})
session = store.new_session()
writing = store.begin(session.id, Origin(model="m"), language="python")
for part in parts(TEXT):
    writing.append(part)
child = store.begin(session.id, Origin(), parent=writing.node.id, at=4,
                    shared=store.trace(writing.node.id).cut(4))
child.append(parts(TEXT)[4])
os._exit(9)
"""
    died = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=False)
    assert died.returncode == 9
    store = Store(tmp_path)
    assert store.kept == 2
    (session,) = store.sessions()
    root, child = store.nodes(session.id)
    assert {root.status, child.status} == {"interrupted"}
    trace = store.trace(root.id)
    assert (trace.text, trace.n_prompt, trace.language) == (TEXT, 9, "python")
    assert trace.column("entropy").tolist() == list(range(len(TEXT)))
    assert trace.attention is not None
    assert trace.attention.count == len(TEXT) - 1
    assert store.trace(child.id).text == TEXT[:5]
    assert not list(tmp_path.glob("traces/*.journal"))
    store.close()


def test_what_a_crash_left_lying_about_is_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    session = store.new_session().id
    done, almost = (store.begin(session, Origin()) for _ in "ab")
    for writing in (done, almost):
        writing.append(parts("a")[0])
    done.finish(None, "length")
    trace = replace(store.trace(almost.node.id), finish="length")
    files = tmp_path / "traces"
    trace.save(files / f"{almost.node.id}.safetensors")  # then it dies: no row, no commit
    store.close()
    for stray in ("x.part", "gone.safetensors", f"{done.node.id}.journal"):
        (files / stray).write_bytes(b"")
    store = Store(tmp_path)
    assert {n.status for n in store.nodes(session)} == {"done"}
    assert store.node(almost.node.id).finish == "length"
    left = {f"{w.node.id}.safetensors" for w in (done, almost)}
    assert {p.name for p in files.iterdir()} == left
    store.close()


def test_a_torn_journal_gives_its_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "j"
    log = journal.Journal(path, Origin(model="m"), "", 0)
    ends = [path.stat().st_size]
    for part in parts("abcd"):
        log.append(part)
        ends.append(path.stat().st_size)
    log.close()
    whole = path.read_bytes()
    sizes = {n + d for n in [*ends, len(whole)] for d in (-1, 0, 1, 5, 9, 100)}
    for size in sorted(n for n in sizes if 0 <= n <= len(whole)):
        path.write_bytes(whole[:size])
        kept = sum(size >= end for end in ends[1:])
        held = journal.read(path)
        assert held.after(None).text == "abcd"[:kept]
        assert held.cut == size - held.end
    broken = bytearray(whole)
    broken[ends[2] + 40] ^= 1  # a flipped bit in the third part
    path.write_bytes(broken)
    made = journal.read(path).after(None)
    assert [t.text for t in made.tokens] == ["a", "b", LOST, "d"]
    assert made.origin.model == "m"
    assert made.column("entropy")[3] == 3
    path.write_bytes(whole[: ends[0] - 3] + whole[ends[0] :])  # the first record is torn
    assert journal.read(path).after(None).text == "abcd"


def test_the_quality_of_a_column_is_kept(tmp_path: Path) -> None:
    log = journal.Journal(tmp_path / "j", Origin(), "", 0)
    one = parts("a")[0]
    log.append(Part(0, one.tokens, one.columns, quality={"entropy": "bound"}))
    log.close()
    back = journal.read(tmp_path / "j").after(None)
    assert back.columns["entropy"].quality == "bound"


def test_groups_are_committed_by_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GROUP_SECONDS", 1e9)
    log = journal.Journal(tmp_path / "j", Origin(), "", 0)
    grown = [log.append(p) for p in parts("a" * 70)]
    assert [i for i, g in enumerate(grown) if g] == [31, 63]
    assert (log.tokens, log.committed) == (70, 64)
    assert log.commit()
    assert log.committed == 70
    assert not log.commit()


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40), st.integers(0, 40))
def test_arrays_come_back_as_they_were(text: str, n_prompt: int) -> None:
    import tempfile

    data = text.encode("utf-8", "surrogatepass")
    tokens = Tokens.of(list(data), [bytes([b]) for b in data])
    trace = Trace(tokens, min(n_prompt, len(data))).with_column(
        "entropy", np.linspace(0, 1, len(data), dtype=np.float32)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.safetensors"
        trace.save(path)
        back = ts.read(path)
        assert back.tokens.data == data
        assert back.n_prompt == trace.n_prompt
        np.testing.assert_array_equal(back.column("entropy"), trace.column("entropy"))
        assert [p.name for p in Path(folder).iterdir()] == ["t.safetensors"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writing = store.begin(store.new_session().id, Origin())
    writing.append(parts("a")[0])
    writing.finish(None, "length")
    store.close()
    store = Store(tmp_path)
    (path,) = (tmp_path / "traces").iterdir()
    for damage in (b"", b"\x80\x04.", b"\xff" * 100):
        path.write_bytes(damage)
        with pytest.raises(StoreDamaged, match=r"\.safetensors"):
            store.trace(writing.node.id)
    store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreLocked, match="--data"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    Store(tmp_path / "data").close()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / FILE).stat().st_mode) == 0o600


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    raw = sqlite3.connect(tmp_path / FILE)
    raw.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    raw.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreNewer, match="newer"):
        Store(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    Store(tmp_path / "other").close()


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreDamaged, match="damaged"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreGone, match="--data"):
        Store(tmp_path / "file" / "data")


def test_durable_settings(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store._database.read() as connection:
        ask = lambda name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        assert (ask("journal_mode"), ask("synchronous"), ask("foreign_keys")) == ("wal", 2, 1)
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    Store(tmp_path).close()

    def m004_bad(connection: sqlite3.Connection, _: Path) -> None:
        connection.execute("CREATE TABLE more (id TEXT)")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        migrate(tmp_path / FILE, tmp_path / "traces", (*STEPS, m004_bad))
    raw = connect(tmp_path / FILE)
    assert not raw.execute("SELECT * FROM sqlite_master WHERE name = 'more'").fetchall()
    assert raw.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)
    raw.close()
    Store(tmp_path).close()
