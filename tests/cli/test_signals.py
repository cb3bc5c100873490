"""A signal while libraries are imported or a model is loaded: an exit code, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHOW = """
import importlib.abc, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            print("now", file=sys.stderr, flush=True)
sys.meta_path.insert(0, Watch())
sys.argv = ["tokenscope", "generate", "x", "-n", "1"]
from tokenscope.cli import main
main()
"""


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGINT, "typer"), (signal.SIGINT, "numpy"), (signal.SIGINT, "torch"),
        (signal.SIGTERM, "torch"),
        (signal.SIGINT, "transformers.models.auto.modeling_auto"),
    ],
)  # fmt: skip
def test_a_signal_ends_it_in_silence(number: signal.Signals, at: str, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SHOW.format(at=at)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:  # on a slow machine a line about the waiting may come first
        if line == "now\n":  # it stands at that very import
            break
    time.sleep(0.01)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "Error" not in err, err
    assert child.returncode == 128 + number, (out, err)
