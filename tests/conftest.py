"""Shared fixtures: the bundled model and one small random model per family, loaded once."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models and several test processes

import pytest

from tests.families import FAMILIES, make
from tests.real_model import smollm2
from tokenscope.runs.model import Model, load


@pytest.fixture(scope="session")
def bundled() -> Model:
    return load()


@pytest.fixture(scope="session")
def real() -> Model:
    """SmolLM2-135M-Instruct in float32; skips with the reason where it cannot be had."""
    folder, reason = smollm2()
    if folder is None:
        pytest.skip(reason)
    return load(folder)


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("family") / request.param
    return load(make(request.param, Path(folder)))
