"""Backups: taken while a run goes on, checked before they are restored."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.storage import Told, lost, part, story
from tokenscope.cli import run
from tokenscope.errors import InputError, StoreGone
from tokenscope.store import Store
from tokenscope.store.backup import backup, restore
from tokenscope.trace import Origin


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Store, Told]]:
    store, told = Store(tmp_path / "data"), Told()
    story(store, told)
    yield store, told
    store.close()


def test_what_was_shown_is_in_it(filled: tuple[Store, Told], tmp_path: Path) -> None:
    store, told = filled
    made = backup(store.path, tmp_path / "b.tar")
    assert made.branches == len(told.shown) - len(told.gone)
    restore(tmp_path / "b.tar", tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    assert lost(copy, told) == []
    assert [s.title for s in copy.sessions()] == [s.title for s in store.sessions()]
    copy.close()


def test_a_backup_while_runs_go_on(filled: tuple[Store, Told], tmp_path: Path) -> None:
    """Every token that was written before the backup began is in it; each copy is whole."""
    store, told = filled
    (session,) = store.sessions()
    stop = threading.Event()
    shown: dict[str, str] = {}

    def write() -> None:
        while not stop.is_set():
            writing = store.begin(session.id, Origin())
            for i in range(30):
                writing.append(part(i, chr(97 + i % 26)))
                shown[writing.node.id] = "".join(chr(97 + k % 26) for k in range(i + 1))
            writing.finish(None, "length")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(4):
            before = dict(shown)
            backup(store.path, tmp_path / f"{i}.tar")
            restore(tmp_path / f"{i}.tar", tmp_path / f"copy{i}")
            copy = Store(tmp_path / f"copy{i}")
            assert lost(copy, told) == []
            for node, text in before.items():
                assert copy.trace(node).text.startswith(text)
                assert copy.node(node).status in ("done", "interrupted")
            copy.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_is_not_whole_is_refused(filled: tuple[Store, Told], tmp_path: Path) -> None:
    store, _ = filled
    path = tmp_path / "b.tar"
    backup(store.path, path)
    with pytest.raises(InputError, match="already"):
        backup(store.path, path)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        file = next(m for m in tar if m.name.startswith("traces/"))
    broken = bytearray(whole)
    broken[file.offset_data + 100] ^= 1
    damaged = (bytes(broken), whole[: len(whole) // 2], whole[:-8000] + b"x" * 100, b"", b"no tar")
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(InputError):
            restore(path, tmp_path / "copy")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "data"]
    for name in ("../evil", "/etc/evil", "traces/../../evil", "traces/x.py", "lock"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        path.write_bytes(out.getvalue())
        with pytest.raises(InputError, match="no part"):
            restore(path, tmp_path / "copy")


def test_commands(
    filled: tuple[Store, Told], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = filled
    data, file = str(store.path), str(tmp_path / "b.tar")
    assert run(["backup", file, "--data", data, "--json"]) == 0  # while the store is open
    assert json.loads(capsys.readouterr().out)["sessions"] == 1
    assert run(["restore", file, "--data", data]) == 2  # never over what is there
    assert run(["restore", file, "--data", str(tmp_path / "copy"), "--json"]) == 0
    capsys.readouterr()
    assert run(["purge", "--data", data, "--json"]) == 3  # held by the open store
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "store_locked"
    copy = Store(tmp_path / "copy")
    copy.delete_session(copy.sessions()[0].id)
    copy.close()
    purge = ["purge", "--data", str(tmp_path / "copy"), "--older-than", "0", "--json"]
    assert run([*purge, "--dry-run"]) == 0
    would = json.loads(capsys.readouterr().out)
    assert would["sessions"] == 1
    assert would["bytes"] > 1000
    assert run(purge) == 0
    assert json.loads(capsys.readouterr().out) == {**would, "dry_run": False}
    assert not list((tmp_path / "copy" / "traces").iterdir())
    with pytest.raises(StoreGone):
        backup(tmp_path, tmp_path / "c.tar")
