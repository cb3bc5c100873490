"""The docs as a site: it builds without a warning, holds every page, and fetches nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FETCHED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\"\s>]+")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return out


def test_every_page_is_there_and_in_the_menu(site: Path) -> None:
    """The menu is every page by its title, so nobody has to keep a list."""
    menu = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file(), page.name
        assert f'href="{page.stem}.html"' in menu or page.stem == "index", page.name


def test_nothing_is_fetched(site: Path) -> None:
    for page in site.glob("*.html"):
        found = [f for f in FETCHED.findall(page.read_text()) if 'rel="canonical"' not in f]
        assert not found, (page.name, found)
