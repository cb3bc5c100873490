"""The network stays off while a model is loaded, whenever the hub's client was imported."""

from __future__ import annotations

import os
import subprocess
import sys

from tokenscope.backends.hf.hub import network

SCRIPT = """
import socket, sys
asked = []
def refuse(*a, **k):
    asked.append(a)
    raise OSError("no network in this test")
socket.getaddrinfo = socket.socket.connect = refuse
import huggingface_hub, transformers  # the client reads its environment now
from huggingface_hub import constants
assert constants.HF_HUB_OFFLINE is False
from tokenscope.backends.hf.hub import network
from tokenscope.errors import ModelError
from tokenscope.runs.model import load
try:
    load("some-owner/some-model")
except ModelError as error:
    assert "the network is off" in str(error)
with network(False):
    try:
        huggingface_hub.model_info("some-owner/some-model")
    except huggingface_hub.errors.OfflineModeIsEnabled:
        print("refused")
assert not asked, asked
try:
    load("some-owner/some-model", allow_network=True)
except ModelError as error:
    assert "the network is off" not in str(error)
assert asked
assert constants.HF_HUB_OFFLINE is False  # the caller's own setting is left as it was
print("held")
"""


def test_the_network_is_off_although_the_client_was_imported_first() -> None:
    plain = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE",)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=plain, timeout=120
    )
    assert done.stdout.split() == ["refused", "held"], done.stderr[-2000:]


def test_the_switch_goes_back() -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with network(True):
        assert constants.HF_HUB_OFFLINE is False
    with network(False):
        assert constants.HF_HUB_OFFLINE is True
    assert before == constants.HF_HUB_OFFLINE
