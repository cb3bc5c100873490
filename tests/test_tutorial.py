"""The tutorial notebook runs from top to bottom in a kernel of its own, and shows what it says."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorial.ipynb"
SECONDS = 40  # of processor time it is meant to take; a slow machine may take ten times as long


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tutorial")
    kernel = folder / "share/jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(folder / "share/jupyter")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    book = nbformat.read(NOTEBOOK, as_version=4)
    before = time.monotonic()
    nbclient.NotebookClient(book, timeout=10 * SECONDS, kernel_name="python3").execute(
        cwd=str(folder)
    )
    print(f"the tutorial ran in {time.monotonic() - before:.0f} s")
    out = os.environ.get("TOKENSCOPE_TUTORIAL_OUT")
    if out:
        nbformat.write(book, out)
    return book


def output(book: Any, source: str, kind: str) -> str:
    """The last output of that kind of the cell that begins so."""
    cell = next(c for c in book.cells if c.cell_type == "code" and c.source.startswith(source))
    held = [o["data"][kind] for o in cell.outputs if kind in o.get("data", {})]
    return "".join(held[-1])


def printed(book: Any) -> str:
    return "".join(o.text for c in book.cells if c.cell_type == "code" for o in c.outputs
                   if o.output_type == "stream")  # fmt: skip


def test_it_is_kept_without_outputs() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not [c for c in book.cells if c.cell_type == "code" and c.outputs]


def test_no_stray_warnings(executed: Any) -> None:
    streams = [o for c in executed.cells if c.cell_type == "code" for o in c.outputs
               if o.output_type == "stream"]  # fmt: skip
    assert [o.text for o in streams if o.name == "stderr"] == []


def test_the_story_holds(executed: Any) -> None:
    """What the words between the cells say is what the cells show."""
    assert "' width'   <- chosen" in printed(executed) and "' height'" in printed(executed)
    assert "Ban" in printed(executed)
    assert "tokens shared" in output(executed, "branch =", "text/html")
    assert "why" in output(executed, "why =", "text/html")
    assert "layer" in output(executed, 'trace.draw("heads"', "text/html")
    assert "function_definition area" in output(executed, "source =", "text/html")
    assert output(executed, "import tempfile", "text/plain") == "True"
    widget = next(c for c in executed.cells if c.source.startswith("explorer ="))
    kinds = {k for o in widget.outputs for k in o.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" in kinds
