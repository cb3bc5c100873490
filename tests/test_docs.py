"""Commands in README and docs run. A block that starts with ```sh test is run line by line, each in
a shell of its own; its ``tokenscope`` is forked off one that has the libraries imported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.warm import Warm
from tokenscope.cli.commands import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh test\n(.*?)^```", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```sh[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def commands() -> list[tuple[str, str]]:
    return [
        (page.name, line)
        for page in PAGES
        if page.exists()
        for block in BLOCK.findall(page.read_text())
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.close()


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda v: str(v)[:60])
def test_a_command_runs(page: str, line: str, tmp_path: Path, warm: Warm) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    path = os.pathsep.join((str(warm.folder), str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(tmp_path / "home"), "COLUMNS": "100"}
    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", line], cwd=tmp_path, env=env, capture_output=True,
        text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}: {line}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists()], ids=lambda p: p.name)
def test_options_in_the_docs_exist(page: Path) -> None:
    """Every option of a `tokenscope` command line that the docs show is one that it has."""
    group = typer.main.get_command(app)
    for block in ANY_BLOCK.findall(page.read_text()):
        for part in re.split(r"&&|[|;\n]", re.sub(r" #.*", "", block)):
            found = re.search(r"\btokenscope (\w+)(.*)", part)
            if found is None or found.group(1) not in group.commands:  # type: ignore[attr-defined]
                continue
            command = group.commands[found.group(1)]  # type: ignore[attr-defined]
            known = {o for p in command.params for o in p.opts} | {"--help"}
            used = set(re.findall(r"(?<=\s)--[a-z-]+", found.group(2)))
            assert used <= known, (part, used - known)


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists()], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_command_is_in_the_docs() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert name in text


def test_the_house_is_the_one_that_is_described() -> None:
    """Every file of the package is named in docs/design.md in the line of its room."""
    listing = (ROOT / "docs/design.md").read_text().split("## The house")[1].split("```")[1]
    rooms = {name: set(re.findall(r"\w+", text)) for name, text in re.findall(
        r"^[ \d]*?(\w+)/ +(.*?)(?=^[ \d]*?\w+/ |\Z)", listing, re.MULTILINE | re.DOTALL,
    )}  # fmt: skip
    for file in sorted((ROOT / "src/tokenscope").rglob("*.py")):
        if file.stem.startswith("__"):
            continue
        room = file.parent.name
        named = rooms[room] if room in rooms else set(re.findall(r"\w+", listing))
        assert file.stem in named, f"{room}/{file.name}"


def test_the_route_table_is_that_of_the_server() -> None:
    row = re.compile(r"^\| (GET|POST|PATCH|DELETE) `([^`?]*)", re.MULTILINE)
    told = {(m, re.sub(r"{\w+}", "{}", path))
            for m, path in row.findall((ROOT / "docs/design.md").read_text())}  # fmt: skip
    paths = json.loads((ROOT / "web/openapi.json").read_text())["paths"]
    have = {(m.upper(), re.sub(r"{\w+}", "{}", path)) for path, at in paths.items() for m in at}
    assert told == have
