"""The plugin in a pytest of its own: what holds passes, what does not fails with its reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
def test_good(tokenscope_trace):
    made = tokenscope_trace("def area(r):\\n", max_new_tokens=6)
    assert made.text.startswith("def area")
    made.parses().finds_nothing(cwe=78).surprisal_below(40.0)


def test_shell(tokenscope_trace):
    made = tokenscope_trace("import os\\ndef run(cmd):\\n    os.system(", max_new_tokens=10)
    made.finds_nothing(cwe=78)


def test_surprised(tokenscope_trace):
    tokenscope_trace("x = ", max_new_tokens=4).surprisal_below(0.0)
"""


def test_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tokenscope.pytest_plugin", "-p",
         "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout and "2 failed" in done.stdout, done.stdout
    assert "analyser-detected" in done.stdout and "nats" in done.stdout
