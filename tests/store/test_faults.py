"""Storage that fails: each failure has a name and a remedy, and nothing that was shown is lost."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.crash import kills
from bench.storage import KINDS, Fault, Told, all_faults, full_disk, injected, lost, part, story
from tokenscope import disk
from tokenscope.errors import (
    StoreDamaged,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreGone,
    StoreLocked,
)
from tokenscope.store import Store, database, journal, recording
from tokenscope.store.database import FILE
from tokenscope.trace import Origin


def test_any_call_may_fail(tmp_path: Path) -> None:
    """A sample of `bench/storage.py`, which lets every one of them fail."""
    found = all_faults(tmp_path, step=41)
    assert found["wrong"] == []
    assert found["calls"] >= 300
    assert set(found["errors"]) == {
        "store_full", "store_failing", "store_read_only", "store_locked",
    }  # fmt: skip


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    found = full_disk(tmp_path / "small")
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["wrong"] == []
    assert set(found["errors"]) == {"store_full"}


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, file: int, data: memoryview) -> int:
            return os.write(file, data[:7])

    monkeypatch.setattr(disk, "os", Short())
    log = journal.Journal(tmp_path / "j", Origin(model="m"), "", 0)
    for i, c in enumerate("abc"):
        log.append(part(i, c))
    log.close()
    held = journal.read(tmp_path / "j")
    assert (held.after(None).text, held.cut) == ("abc", 0)


def test_a_torn_record_is_cut_back(tmp_path: Path) -> None:
    """The write takes half of the record, then the disk is full: the file ends where it did."""
    log = journal.Journal(tmp_path / "j", Origin(), "", 0)
    log.append(part(0, "a"))
    size = (tmp_path / "j").stat().st_size
    with injected(Fault(0, KINDS[0], short=True)), pytest.raises(StoreFull):
        log.append(part(1, "b"))
    assert (tmp_path / "j").stat().st_size == size
    log.close()
    assert journal.read(tmp_path / "j").after(None).text == "a"


def test_after_a_failed_sync_the_journal_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    log = journal.Journal(tmp_path / "j", Origin(), "", 0)
    log.append(part(0, "a"))
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(StoreFailing, match="log"):
        log.commit()
    monkeypatch.undo()  # the kernel may say yes now, and have dropped the pages
    with pytest.raises(StoreFailing):
        log.append(part(1, "b"))
    assert log.committed == 0
    log.close()


def test_a_folder_that_is_taken_away_is_noticed(tmp_path: Path) -> None:
    folder, aside = tmp_path / "data", tmp_path / "aside"
    store, told = Store(folder), Told()
    story(store, told)
    (session,) = store.sessions()
    writing = store.begin(session.id, Origin())
    writing.append(part(0, "ab"))
    folder.rename(aside)
    for ask in (store.new_session, store.sessions, lambda: store.begin(session.id, Origin())):
        with pytest.raises(StoreGone, match="data"):
            ask()
    folder.mkdir()  # another one in its place is not it
    (folder / "traces").mkdir()
    (folder / "lock").touch()
    with pytest.raises(StoreGone, match="in its place"):
        store.new_session()
    with pytest.raises(StoreGone):
        writing.finish(None, "length")
    for file in (folder / "traces", folder / "lock"):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    aside.rename(folder)  # it is back: all is well
    assert store.node(writing.node.id).status == "interrupted"
    store.new_session()
    assert store.node(writing.node.id).status == "done"
    assert store.trace(writing.node.id).text == "ab"
    assert not lost(store, told)
    store.close()


def test_traces_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("")
    with pytest.raises(StoreGone, match="traces"):
        Store(tmp_path)
    (tmp_path / "traces").unlink()
    store = Store(tmp_path)
    (tmp_path / "traces").rmdir()
    (tmp_path / "traces").write_text("")
    with pytest.raises(StoreGone, match="traces"):
        store.new_session()
    store.close()


def test_a_locked_database_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 50)
    store = Store(tmp_path)
    session = store.new_session().id
    store.close()
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreLocked, match="nothing is damaged"):
        Store(tmp_path)
    other.execute("ROLLBACK")
    other.close()
    store = Store(tmp_path)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked):
        store.new_session()
    other.close()
    assert store.session(session).id == session
    store.new_session()
    store.close()


def test_a_damaged_database_says_what_to_do_and_is_left_alone(tmp_path: Path) -> None:
    store, told = Store(tmp_path), Told()
    story(store, told)
    store.close()
    files = sorted(p.name for p in (tmp_path / "traces").iterdir())
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreDamaged, match="copy"):
        Store(tmp_path)
    # whoever deletes it all the same keeps the arrays
    (tmp_path / FILE).unlink()
    Store(tmp_path).close()
    assert sorted(p.name for p in (tmp_path / "traces").iterdir()) == files


@pytest.mark.parametrize("error", list(StoreError.__subclasses__()), ids=lambda e: str(e.code))
def test_every_failure_says_cause_and_remedy(error: type[StoreError]) -> None:
    made = error("/a/path", "why")
    assert str(made).startswith("/a/path: ")
    assert "(why); " in str(made)
    assert made.remedy
    assert made.code.startswith("store_")


def test_a_full_disk_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own words for it differ with the file that cannot be made."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    assert isinstance(database.failure(error, tmp_path / FILE), StoreFailing)
    monkeypatch.setattr(disk, "free", lambda _: 0)
    assert isinstance(database.failure(error, tmp_path / FILE), StoreFull)


def test_another_process_holds_it(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from tokenscope.store import Store
store = Store({str(tmp_path)!r})
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked, match=f"process {other.pid}"):
            Store(tmp_path)
        other.communicate()
    Store(tmp_path).close()


def test_killed_while_writing(tmp_path: Path) -> None:
    """A sample of `bench/crash.py`, which kills a hundred times."""
    found = kills(tmp_path / "data", 4)
    assert found["wrong"] == []
    assert found["tokens"] > 20


def test_a_slow_disk_makes_a_run_wait_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    writing = store.begin(store.new_session().id, Origin())
    seen: list[float] = []

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, file: int, data: memoryview) -> int:
            time.sleep(0.01)
            seen.append(writing.waiting)
            return os.write(file, data)

    monkeypatch.setattr(disk, "os", Slow())
    monkeypatch.setattr(recording, "SLOW", 0.005)
    with caplog.at_level(logging.WARNING):
        writing.append(part(0, "ab"))
    assert len(seen) == 1
    assert seen[0] >= 0.01
    assert writing.waiting == 0
    assert "the disk took 0.0 s" in caplog.text
    assert store.trace(writing.node.id).text == "ab"
    store.close()
