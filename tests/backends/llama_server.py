"""A real llama.cpp server on 127.0.0.1, in a process of its own: what a remote model is tested on.

``python -m tests.backends.llama_server FILE`` serves a GGUF file and prints its address.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTEXT = 512  # of each of the two places


@contextmanager
def serving(file: Path, context: int = CONTEXT) -> Iterator[str]:
    """Its address, ``http://127.0.0.1:port``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.backends.llama_server", str(file), str(context)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        yield address
    finally:
        process.kill()
        process.wait()


def main(file: str, context: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = file
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 2
    params.n_ctx = 2 * int(context)
    params.cpuparams.n_threads = 1
    params.warmup = False
    # float32 all through, so that numbers can be compared
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
