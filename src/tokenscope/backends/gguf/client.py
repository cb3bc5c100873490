"""The other end of the worker's pipe: starts it, asks, and says plainly when it has died."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.gguf import frames
from tokenscope.errors import (
    CapacityError,
    InputError,
    MissingError,
    ModelError,
    TokenScopeError,
)

SECONDS = 600.0  # the longest that one request may take


class Worker:
    """One llama.cpp process. Requests are answered in order; not thread safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        source = str(Path(__file__).parents[3])
        known = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tokenscope.backends.gguf.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env={**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(known)},
            start_new_session=True,  # Ctrl-C in a terminal is ours to handle
        )  # fmt: skip
        self.closed = False

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def ask(
        self, do: str, raw: bytes = b"", seconds: float = SECONDS, **request: Any
    ) -> tuple[dict[str, Any], list[NDArray[Any]], bytes]:
        """One request and its answer.

        Raises what the worker refuses with, and ModelError when it died or did not answer.
        """
        if self.closed:
            raise ModelError(self.path.name, "has been closed")
        late = threading.Timer(seconds, self._process.kill)
        late.daemon = True
        late.start()
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            frames.send(self._process.stdin, {"do": do, **request}, (), raw)  # type: ignore[arg-type]
            head, arrays, out = frames.receive(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, ValueError) as error:
            raise self._died() from error
        finally:
            late.cancel()
        if "error" in head:
            raise _refusal(self.path, head["error"], head["text"])
        return head, arrays, out

    def _died(self) -> ModelError:
        self.closed = True
        self._process.kill()
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read()[-20_000:].decode("utf-8", "replace").strip().splitlines()
        telling = [s for s in lines if "GGML_ASSERT" in s or "error" in s.lower()] or lines
        why = f": {telling[-1][:200]}" if telling else ""
        return ModelError(
            self.path.name,
            f"llama.cpp ended in the middle of a request (exit code {code}{why}); nothing that "
            "was recorded is lost; load the model again to go on",
        )

    def close(self) -> None:
        """End the process."""
        if self.closed:
            return
        self.closed = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._said.close()


def _refusal(path: Path, kind: str, text: str) -> TokenScopeError:
    match kind:
        case "environment":
            return MissingError(text)
        case "input":
            return InputError("text", text)
        case "capacity":
            return CapacityError(f"{path.name}: {text}")
        case "full":
            return Full(text)
        case _:
            return ModelError(path.name, text)


class Full(CapacityError):
    """No free cell is left in the memory: something must be forgotten first."""


def rows_of(head: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> list[
    tuple[NDArray[np.float32] | None, list[NDArray[np.float32]]]
]:  # fmt: skip
    """The arrays of an ``extend`` answer, per feed: logits (n, V) or None, rows per layer."""
    out: list[tuple[NDArray[np.float32] | None, list[NDArray[np.float32]]]] = []
    rest = iter(arrays)
    for item in head["layout"]:
        scores = next(rest) if item["scores"] else None
        out.append((scores, [next(rest) for _ in range(item["layers"])]))
    return out
