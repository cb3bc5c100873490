"""What draws itself: in a notebook, as a page of its own, as a file to hand on."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tokenscope.disk import write_whole
from tokenscope.errors import UnknownName
from tokenscope.registry import Registry
from tokenscope.trace.display import visible

DOCUMENT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>:root{{color-scheme:light dark}}body{{margin:16px}}</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A piece of HTML that needs nothing: no script, no file, no network.

    ``body`` is safe to show: everything that comes from a model was escaped where it was made.
    """

    title: str
    body: str

    def _repr_html_(self) -> str:
        return self.body

    def html(self) -> str:
        """A whole document, which a browser opens and forbids to load anything."""
        return DOCUMENT.format(title=html.escape(visible(self.title)), body=self.body)

    def save_html(self, path: str | Path) -> Path:
        """Write :meth:`html` to a file. Raises StoreError; what was there is then kept."""
        target = Path(path)
        write_whole(target, [self.html().encode("utf-8", "replace")], mode=0o644)
        return target


PICTURES: Registry[Callable[..., Picture]] = Registry("picture")


class Shown:
    """Gives a class that has a picture for notebooks (``_repr_html_``) the same as a document."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def html(self) -> str:
        """The picture as a whole document, to be opened in a browser."""
        return Picture(type(self).__name__, self._repr_html_()).html()

    def save_html(self, path: str | Path) -> Path:
        """Write the picture as a file of its own. Raises StoreError."""
        return Picture(type(self).__name__, self._repr_html_()).save_html(path)


class Drawn:
    """Gives a class pictures. ``pictures``: names of those it has; the first is its usual one."""

    __slots__ = ()
    pictures: ClassVar[tuple[str, ...]] = ()

    def draw(self, name: str = "", **options: Any) -> Picture:
        """One of its pictures; options are those of the function that draws it (see
        ``tokenscope.pictures``). Raises UnknownName, which lists the pictures there are."""
        name = name or self.pictures[0]
        if name not in self.pictures:
            raise UnknownName("picture", name, self.pictures)
        return PICTURES.get(name)(self, **options)

    def html(self, name: str = "", **options: Any) -> str:
        """A picture as a whole document, to be opened in a browser."""
        return self.draw(name, **options).html()

    def save_html(self, path: str | Path, name: str = "", **options: Any) -> Path:
        """Write a picture as a file of its own. Raises StoreError."""
        return self.draw(name, **options).save_html(path)

    def _repr_html_(self) -> str:
        return self.draw().body
