"""Many commands from one warm start: a process that has the libraries imported and forks.

Importing torch and transformers costs five seconds of processor time, and the docs show dozens of
commands. ``Warm`` puts a ``tokenscope`` into a folder for the PATH. Each call of it, from any
shell, goes to the waiting process, which forks: the child takes over arguments, folder,
environment and the caller's own stdin, stdout and stderr, and runs ``tokenscope.cli.main`` to its
exit code. Nothing but the imports is shared: no model is loaded before the fork.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

SHIM = """#!{python} -SE
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect({address!r})
told = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(s, [len(told).to_bytes(4, "big")], [0, 1, 2])
s.sendall(told)
code = s.recv(1)
sys.exit(code[0] if code else 70)
"""


class Warm:
    """The process and its folder. ``close`` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        address = str(folder / "warm.socket")
        shim = folder / "tokenscope"
        shim.write_text(SHIM.format(python=sys.executable, address=address))
        shim.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", address], stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], 120)[0]:
            raise TimeoutError("the imports took two minutes")
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


def serve(address: str) -> None:
    """Import what the commands import, then fork for each call."""
    import transformers.models.llama.modeling_llama  # noqa: F401 (the bundled model's family)

    import tokenscope.backends.hf.load
    import tokenscope.cli.commands
    import tokenscope.runs.explain
    import tokenscope.runs.structure_files  # noqa: F401

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    print("ready", flush=True)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(caller)
        caller.close()


def answer(caller: socket.socket) -> None:
    """In the child: become the caller's command, and end with its code."""
    size, files, _, _ = socket.recv_fds(caller, 4, 3)
    told = b""
    while len(told) < int.from_bytes(size, "big"):
        told += caller.recv(1 << 16)
    sys.argv, folder, environment = json.loads(told)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for mine, theirs in enumerate(files):
        os.dup2(theirs, mine)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 70
    try:
        from tokenscope.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
