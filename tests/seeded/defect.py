"""One seeded defect, and a copy of the sources to try it in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "tokenscope"
_HEAVY = ("models", "page")  # weights and the built page: linked, not copied


class StaleDefect(Exception):
    """The text that a defect replaces is not there exactly once: the source has moved on."""


@dataclass(frozen=True, slots=True)
class Defect:
    """``file`` under ``src/tokenscope``; ``before`` stands there once and becomes ``after``.

    ``breaks``: what is wrong then. ``tests``: pytest's names of what must fail.
    """

    name: str
    file: str
    before: str
    after: str
    breaks: str
    tests: tuple[str, ...]

    def seeded(self, root: Path = SOURCES) -> str:
        """The file's text with the defect. Raises StaleDefect."""
        text = (root / self.file).read_text(encoding="utf-8")
        found = text.count(self.before)
        if found != 1:
            raise StaleDefect(f"stale defect {self.name!r}: its text stands {found} times in "
                              f"{self.file}, not once; write it anew")  # fmt: skip
        return text.replace(self.before, self.after)


def copied(folder: Path) -> Path:
    """``folder/src`` with a copy of the package; what is heavy and holds no code is linked."""
    to = folder / "src" / "tokenscope"
    shutil.copytree(SOURCES, to, ignore=shutil.ignore_patterns("__pycache__", *_HEAVY))
    for path in SOURCES.rglob("*"):
        if path.name in _HEAVY and path.is_dir():
            (to / path.relative_to(SOURCES)).symlink_to(path, target_is_directory=True)
    return folder / "src"
