"""An audit over a local Ray cluster: the records of a local run, also when a worker dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokenscope as ts
from tests.evidence.test_audit_run import PROMPTS, SMALL, cases
from tokenscope.cli.commands import run
from tokenscope.errors import InputError, MissingError

DRIVER = """
import os, signal, sys, threading, time
from pathlib import Path
import tokenscope as ts
from tests.evidence.test_audit_run import PROMPTS, SMALL

out = Path(sys.argv[1])

def workers():
    found = []
    for p in Path("/proc").iterdir():
        try:
            if p.name.isdigit() and (p / "cmdline").read_bytes().startswith(b"ray::Auditor"):
                found.append(int(p.name))
        except OSError:
            pass
    return found

def kill():
    journal = out / "records.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\\n") < 2:
        time.sleep(0.01)
    mine = workers()
    os.kill(mine[0], signal.SIGKILL)
    print("killed", len(mine), flush=True)

threading.Thread(target=kill, daemon=True).start()
many = [{**p, "id": f"{p['id']}{n}"} for n in range(6) for p in PROMPTS]
ts.audit(many, out=out, formats=["jsonl"], processes=2, engine="ray", **SMALL)
"""


def test_ray_gives_the_same_records_when_a_worker_is_killed(
    bundled: ts.Model, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is an extra and not installed")
    if not Path("/proc").is_dir():
        pytest.skip("finding the worker to kill needs /proc")
    root = Path(__file__).parents[2]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root / 'src'}:{root}"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "ray")], env=env, capture_output=True,
        text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == "killed 2"  # then what Ray says of it
    many = [{**p, "id": f"{p['id']}{n}"} for n in range(6) for p in PROMPTS]
    ts.audit(many, model=bundled, out=tmp_path / "one", formats=["jsonl"], **SMALL)
    one, two = cases(tmp_path / "one"), cases(tmp_path / "ray")
    assert [c["case"] for c in one] == [c["case"] for c in two] and len(one) == 18
    for a, b in zip(one, two, strict=True):
        assert a["error"] is None and b["error"] is None
        for s, t in zip(a["samples"], b["samples"], strict=True):
            assert s["tokens"]["ids"] == t["tokens"]["ids"] and s["findings"] == t["findings"]


def test_without_ray_it_is_said(
    bundled: ts.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"tokenscope\[ray\]"):
        ts.audit(["x"], model=bundled, out=tmp_path, engine="ray", max_new_tokens=1)
    with pytest.raises(InputError, match="engine"):
        ts.audit(["x"], model=bundled, engine="spark", max_new_tokens=1)
    (tmp_path / "p.jsonl").write_text('"x"\n')
    asked = ["audit", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "o"), "--engine", "spark"]
    assert run(asked) == 2
