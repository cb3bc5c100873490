"""Every run of the server has its record, and a trace that was changed shows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.storage import KINDS, Fault, injected
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.cli import run
from tokenscope.records import RecordLog, verify
from tokenscope.runs.audit import audit
from tokenscope.runs.model import Model
from tokenscope.server.books import Books
from tokenscope.store import Store

if TYPE_CHECKING:
    from conftest import Served


def about(served: Served) -> list[dict[str, object]]:
    log = served.house.books.log
    return [log.payload(r.seq) or {} for r in log.records() if r.kind in ("run", "recovered")]


def test_every_run_is_recorded(serve: Callable[..., Served]) -> None:
    served = serve()
    node = served.generate(max_new_tokens=5)[-1]["node"]
    fork = {"at": 10, "token_id": 65, "settings": {"max_new_tokens": 3}}
    branch = served.events(f"/api/nodes/{node['id']}/fork", fork)[-1]["node"]
    assert served.idle()
    told = about(served)
    assert [(t["job"], t["node"], t["finish"]) for t in told] == [
        ("generate", node["id"], "length"), ("fork", branch["id"], "length"),
    ]  # fmt: skip
    assert told[0]["tokens"] == 14
    assert "def f" not in json.dumps(told)
    assert verify(served.house.books.log).ok


def test_a_purged_branch_is_erased_from_the_records(serve: Callable[..., Served]) -> None:
    served = serve()
    keep = served.generate(max_new_tokens=2)[-1]["node"]
    gone = served.generate(max_new_tokens=2)[-1]["node"]
    served.client.delete(f"/api/sessions/{gone['session']}")
    served.client.post("/api/storage/purge")
    assert [t["node"] for t in about(served) if t] == [keep["id"]]
    found = verify(served.house.books.log)
    assert found.ok and found.erased == 1


def test_a_trace_that_was_changed_shows(serve: Callable[..., Served], tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    served = serve(data=tmp_path / "data")
    node = served.generate(max_new_tokens=30, alternatives=0, attention="none")[-1]["node"]["id"]
    assert served.idle()
    # a server holds the folder: its traces are not compared, and that is said
    assert run(["verify", "--data", str(tmp_path / "data"), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["traces"] == 0 and "not compared" in told.err
    served.house.store.close()
    assert run(["verify", "--data", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["traces"] == 1
    file = next((tmp_path / "data/traces").glob(f"{node}*"))
    whole = file.read_bytes()
    chance = random.Random(3)
    for at in chance.sample(range(len(whole) - 100 * 4, len(whole)), 8):  # in the last arrays
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        assert run(["verify", "--data", str(tmp_path / "data"), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)["problems"]
        assert [p["kind"] for p in found] == ["trace"]


def test_what_the_disk_refuses_waits(tmp_path: Path) -> None:
    books = Books(tmp_path / "records")
    books.keep("run", {"run": "a"})
    with injected(Fault(0, KINDS[0], lasting=True)):
        books.keep("run", {"run": "b"})
        books.keep("run", {"run": "c"})
        assert books.pending == 2
    books.keep("run", {"run": "d"})
    assert books.pending == 0
    told = [books.log.payload(r.seq) or {} for r in books.log.records()]
    assert [t.get("run") for t in told] == [None, "a", "b", "c", "d"]
    assert verify(books.log).ok


def test_a_run_that_a_crash_left_without_a_record_gets_one(serve: Callable[..., Served],
                                                          tmp_path: Path) -> None:  # fmt: skip
    served = serve(data=tmp_path / "data")
    served.generate(max_new_tokens=2)
    served.house.jobs.recorded = lambda kind, payload: None  # the process dies just before
    node = served.generate(max_new_tokens=3)[-1]["node"]["id"]
    assert served.idle()
    served.house.store.close()
    books, store = Books(tmp_path / "data/records"), Store(tmp_path / "data")
    books.settle(store)
    books.settle(store)
    store.close()
    told = [(r.kind, (books.log.payload(r.seq) or {}).get("node")) for r in books.log.records()]
    assert [t for t in told if t[0] == "recovered"] == [("recovered", node)]
    assert verify(books.log).ok


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(tmp_path)
    assert run(["records", "--data", data, "--new-key", "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    log = RecordLog(tmp_path / "records")
    for n in range(3):
        log.append("run", {"job": "generate", "n": n}, "somebody")
    head = tmp_path / "head.json"
    assert run(["records", "--data", data, "--head", str(head)]) == 0
    assert "generate" in capsys.readouterr().out
    assert run(["records", "--data", data, "--erase", "4"]) == 2
    assert run(["records", "--data", data, "--erase", "4", "--reason", "asked"]) == 0
    assert run(["verify", "--data", data, "--head", str(head), "--key", key]) == 0
    assert run(["verify", "--data", data, "--key", "f" * 16]) == 1
    capsys.readouterr()
    (tmp_path / "records/payloads/000000003.json").unlink()
    assert run(["verify", "--data", data]) == 1
    assert "record 3 is missing" in capsys.readouterr().out
    assert run(["verify", "--data", str(tmp_path / "nowhere")]) == 2
    head.write_text("{}")
    assert run(["verify", "--data", data, "--head", str(head)]) == 2


def test_an_audit_leaves_a_record_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("import os\n\ndef f(x):\n    os.system('rm ' + x)\n")
    out = tmp_path / "out"
    model = Model(ScriptedBackend())
    for _ in range(2):  # the second finds everything done, and writes the reports again
        audit(tmp_path / "a.py", model=model, out=out, formats=("sarif", "markdown"))
    log = RecordLog(out / "records")
    assert [r.kind for r in log.records()] == ["begin", "audit", "audit"]
    assert set((log.payload(2) or {})["files"]) >= {"audit.json", "records.jsonl", "report.sarif"}
    assert run(["verify", "--data", str(out)]) == 0
    report = out / "report.sarif"
    report.write_text(report.read_text() + " ")
    capsys.readouterr()
    assert run(["verify", "--data", str(out)]) == 1
    assert "file report.sarif" in capsys.readouterr().out
