"""Runs a worker script in a process of its own under memory and time limits.

Files that come with a model can make a library take gigabytes, loop for ever or end the process;
in a worker that is one clear error. A worker says each stage before it enters it, so that the
error can name the part of the file that did not come back.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenscope.errors import ModelError

HERE = Path(__file__).parent


def run(
    script: str, job: Mapping[str, Any], where: object, memory: int, seconds: float
) -> dict[str, Any]:
    """The worker's answer to ``job``. ``memory`` in bytes, ``seconds`` of the clock.

    Raises ModelError, with ``where`` as its file, when the worker is stopped or reports an error.
    """
    job = {**job, "memory": memory, "seconds": int(seconds) + 1}
    alone = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(HERE / script)], input=json.dumps(job).encode(),
            capture_output=True, timeout=seconds, check=False, env=alone,
        )  # fmt: skip
        raw, late = done.stdout, False
    except subprocess.TimeoutExpired as error:
        raw, late = error.stdout or b"", True
    stage = ""
    for line in raw.splitlines():
        try:
            out = json.loads(line)
        except ValueError:  # cut by the end of the worker
            continue
        if "error" in out:
            raise ModelError(where, f"{stage}{out['error']}")
        if "stage" not in out:
            return dict(out)
        stage = f"{out['stage']}: "
    if late:
        raise ModelError(where, f"{stage}took longer than {seconds:g} s")
    raise ModelError(where, f"{stage}was stopped at its memory or time limit")
