"""The hub's client, kept off the network unless it was allowed.

The client reads HF_HUB_OFFLINE once, when it is first imported, which may be long before a model
is loaded; so its own switch is set, for as long as a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from tokenscope.errors import ModelError

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
_ONE = Lock()


@contextmanager
def network(allowed: bool) -> Iterator[None]:
    """Inside the block the hub's client may (or may not) go to the network."""
    from huggingface_hub import constants

    with _ONE:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = not allowed
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def snapshot(name: str, allow_network: bool) -> Path:
    """The cached folder of a hub id, fetched first where that is allowed. Raises ModelError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, local_files_only=not allow_network, allow_patterns=WANTED)
        )
    except Exception as error:  # the hub client raises many kinds; all mean: not to be had
        hint = "" if allow_network else "; the network is off (allow it to fetch from the hub)"
        raise ModelError(name, f"is neither a folder nor in the local cache{hint}") from error
