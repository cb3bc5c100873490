"""Record the example of the tour anew, with the bundled model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tokenscope as ts
from tokenscope.store import Store
from tokenscope.store.shared import pack
from tokenscope.trace.files import rows

PROMPT = """import os
import subprocess


def clean(path):
    os.system("rm -rf " + path)


def run(command, timeout=30):
    return subprocess.run(command, timeout=timeout, check=True, shell="""
OTHER = "False"


def main() -> None:
    """A session of two branches: what the model writes, and what it writes after ``OTHER``."""
    model = ts.load()
    first = model.generate(PROMPT, max_new_tokens=40, attention="none", language="python")
    at = first.n_prompt
    other = model.fork(first, at, OTHER, max_new_tokens=40, attention="none")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        session = store.new_session("A tour").id
        writing = store.begin(session, first.origin, language="python")
        writing.append(rows(first, 0))
        root = writing.finish(first, first.finish)
        writing = store.begin(
            session, other.origin, language="python", parent=root.id, at=at, shared=first.cut(at)
        )
        writing.append(rows(other, at))
        writing.finish(other, other.finish)
        held = [(n, store.trace(n.id)) for n in store.nodes(session)]
        data = pack(store.session(session), held)
        store.close()
    (Path(__file__).parent / "tour.tscope").write_bytes(data)


if __name__ == "__main__":
    main()
