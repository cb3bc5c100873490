"""Prompts out of files, hostile ones too; code out of folders and diffs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tokenscope.errors import InputError
from tokenscope.evidence.cases import MOST_LINE, Case, Refused, is_prompts, read_prompts
from tokenscope.evidence.sources import changed_bytes, read_code, read_diff


def read(path: Path, data: bytes) -> tuple[list[Case], list[Refused]]:
    path.write_bytes(data)
    entries = list(read_prompts(path))
    return ([e for e in entries if isinstance(e, Case)],
            [e for e in entries if isinstance(e, Refused)])  # fmt: skip


def test_every_bad_line_is_named_and_the_good_ones_are_read(tmp_path: Path) -> None:
    lines = [
        b'{"id": "a", "prompt": "x = "}',
        b'{"id": "b", "prompt": "caf\xff"}',  # 2: no UTF-8
        b"not json",  # 3
        b'{"id": "c", "text_": "no prompt"}',  # 4
        b'{"id": "a", "prompt": "again"}',  # 5: the id of line 1
        b"",
        b'{"prompt": "' + b"y" * (MOST_LINE + 10) + b'"}',  # 7: too long
        b'"just a text"',
        b"[" * 100_000,  # 9: nested too deeply
        b'{"prompt": "half \\ud800"}',  # 10: half a character
        b'{"prompt": "p", "messages": [{"role": "user", "content": "q"}]}',  # 11
        b'{"prompt": 3}',  # 12
        b"NaN",  # 13
        b'{"prompt": "p", "language": "klingon"}',  # 14
        b'{"messages": [{"role": "user", "content": "hello"}]}',
    ]
    cases, refused = read(tmp_path / "p.jsonl", b"\n".join(lines))
    assert [c.id for c in cases] == ["a", "8", "15"]
    assert [r.line for r in refused] == [2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14]
    assert cases[2].messages == ({"role": "user", "content": "hello"},)
    assert "UTF-8 (byte 26)" in refused[0].reason and "y" * 20 not in refused[4].reason
    assert all("klingon" not in r.reason for r in refused)


def test_the_fields_of_humaneval_and_mbpp(tmp_path: Path) -> None:
    human = {
        "task_id": "HumanEval/0",
        "prompt": "def f():\n",
        "canonical_solution": "x",
        "test": "",
    }
    mbpp = {"task_id": 11, "text": "Remove it.", "code": "c", "test_list": ["assert f() == 1"]}
    cases, _ = read(tmp_path / "p.jsonl", "\n".join(map(json.dumps, (human, mbpp))).encode())
    assert [c.id for c in cases] == ["HumanEval/0", "11"]
    assert cases[1].prompt == '"""\nRemove it.\nassert f() == 1\n"""\n'
    assert cases[1].language == "python"


def test_csv_and_folders(tmp_path: Path) -> None:
    cases, refused = read(
        tmp_path / "p.csv", b'id,prompt\na,"x = 1\ny = "\nb,\nc,"\xff"\na,again\nd,z\n'
    )
    assert [(c.id, c.prompt) for c in cases] == [("a", "x = 1\ny = "), ("d", "z")]
    assert [r.line for r in refused] == [4, 5, 6]
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "one.txt").write_text("def f(")
    (folder / "two.txt").write_bytes(b"\xff")
    entries = list(read_prompts(folder))
    assert isinstance(entries[0], Case) and entries[0].prompt == "def f("
    assert isinstance(entries[1], Refused)
    assert is_prompts(folder) and is_prompts(tmp_path / "p.csv") and not is_prompts(tmp_path)


def test_code_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.bin").write_bytes(b"\0")
    (tmp_path / "c.go").write_bytes(b"\xff")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "d.js").write_text("x")
    entries = list(read_code(tmp_path))
    assert isinstance(entries[0], Case) and entries[0].language == "python"
    assert isinstance(entries[1], Refused) and len(entries) == 2


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        check=True, capture_output=True,
    )  # fmt: skip


def test_a_diff_gives_the_bytes_that_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("one = 1\ntwo = 2\nthree = 3\n")
    (tmp_path / "gone.py").write_text("x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    (tmp_path / "a.py").write_text("one = 1\nTWÖ = 2\nthree = 3\nfour = 4\n")
    (tmp_path / "näw.py").write_text("new = 1\n")
    (tmp_path / "gone.py").unlink()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "b")
    (tmp_path / "a.py").write_text("not committed\n")
    cases = {c.path: c for c in read_diff(tmp_path, "HEAD~1..HEAD") if isinstance(c, Case)}
    assert set(cases) == {"a.py", "näw.py"}
    data = (cases["a.py"].code or "").encode()
    assert [data[a:b].decode() for a, b in cases["a.py"].changed or ()] == [
        "TWÖ = 2\n", "four = 4\n",
    ]  # fmt: skip
    for bad in ("HEAD", "--output=x..y", "a..b;rm"):
        with pytest.raises(InputError):
            list(read_diff(tmp_path, bad))


def test_hunks_of_files_without_a_last_line_end() -> None:
    diff = b"@@ -1 +1,2 @@\n-a\n+b\n+c\n"
    assert changed_bytes(b"b\nc", diff) == ((0, 3),)
    assert changed_bytes(b"a\n", b"@@ -3 +2,0 @@\n-x\n") == ()
    assert changed_bytes(b"a\r\nb\r\n", b"@@ -2 +2 @@\n") == ((3, 6),)
