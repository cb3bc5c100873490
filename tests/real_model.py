"""A real trained model for the suite: SmolLM2-135M-Instruct, fetched as a user fetches it.

``tokenscope models get smollm2`` into a folder of the suite's own (``TOKENSCOPE_TEST_CACHE``, by
default ``~/.cache/tokenscope-tests``). Where it cannot be had, :func:`smollm2` gives the reason and
tests skip with it.

    python -m tests.real_model          # prints the folder
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tokenscope.errors import TokenScopeError
from tokenscope.library.fetch import get
from tokenscope.library.gettable import gettable


def cache_folder() -> Path:
    """Where the model is kept between runs of the suite."""
    given = os.environ.get("TOKENSCOPE_TEST_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "tokenscope-tests"


@cache
def smollm2() -> tuple[Path | None, str]:
    """(folder, "") or (None, the reason why there is none). Safe in several processes at once."""
    missing = cache_folder() / "smollm2.missing"
    try:
        if missing.is_file() and os.environ.get("TOKENSCOPE_CI") is None:
            return None, missing.read_text()
        folder = get("smollm2", library=cache_folder()).folder
        missing.unlink(missing_ok=True)
    except (OSError, TokenScopeError) as error:
        reason = f"SmolLM2 cannot be had here ({str(error)[:200]})"
        try:
            missing.parent.mkdir(parents=True, exist_ok=True)
            missing.write_text(reason)
        except OSError:
            pass
        return None, reason
    return folder, ""


def gguf_file() -> Path:
    """The GGUF file beside the safetensors folder (call :func:`smollm2` first)."""
    return gettable("smollm2").gguf(cache_folder())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found, reason = smollm2()
    print(found or reason)
