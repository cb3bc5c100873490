"""The source archive and the wheel made from it: do they carry what a user needs?"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "tokenscope/py.typed",
    "tokenscope/server/page/index.html",
    "tokenscope/models/bundled/model.safetensors",
    "tokenscope/models/bundled/tokenizer.json",
    "tokenscope/models/bundled/gallery.json",
    "tokenscope/models/gettable.toml",
)


@pytest.mark.skipif(
    not (ROOT / "src/tokenscope/server/page/index.html").is_file(), reason="the page is not built"
)
def test_the_wheel_out_of_the_source_archive_has_page_and_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    left_out = (".*", "web", "build", "dist", "bench", "training", "tests", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*left_out))
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    if done.returncode and "setuptools" in said and "No matching distribution" in said:
        pytest.skip("setuptools cannot be fetched here")
    assert done.returncode == 0, said
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [n for n in NEEDED if n not in names]
    assert any(n.startswith("tokenscope/server/page/assets/") for n in names)
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
    assert "tokenscope/runs/widget.js" in names


def test_what_an_index_shows_needs_nothing_beside_it() -> None:
    """The page of a package index has no folder: no link or picture may be relative."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / project["readme"]).read_text()
    assert not re.findall(r"\]\((?!https:)", text)
    assert set(project["optional-dependencies"]) - {"dev"} <= set(re.findall(r"`(\w+)`", text))
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]


def test_the_container_runs_as_nobody_in_particular() -> None:
    """What can be read off the file: user, health check, nothing fetched but packages."""
    lines = (ROOT / "Containerfile").read_text().splitlines()
    said = [line for line in lines if line and not line.startswith("#")]
    assert next(line for line in reversed(said) if line.startswith("USER")) == "USER scope"
    assert any(line.startswith("HEALTHCHECK") for line in said)
    assert not [line for line in said if re.search(r"curl|wget|https?://", line)]
    for line in said:
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
