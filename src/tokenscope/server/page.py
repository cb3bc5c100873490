"""The built page: ``index.html`` never cached, hashed files under ``assets/`` cached for good."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent / "page"
NOT_BUILT = (
    "TokenScope runs, but its page has not been built.\n\n"
    "From source: run `make page` in the source folder, then load this address again.\n"
    "From a package: this one was built without the page; `make wheel` builds one with it.\n"
)
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".woff2": "font/woff2"}


def router(folder: Path = FOLDER) -> APIRouter:
    """``/`` and every file of the built page."""
    routes = APIRouter(include_in_schema=False)
    root = folder.resolve()

    @routes.get("/")
    def index() -> Response:
        file = root / "index.html"
        if not file.is_file():
            return PlainTextResponse(NOT_BUILT, 503)
        return HTMLResponse(file.read_text("utf-8"), headers={"cache-control": "no-store"})

    @routes.get("/{path:path}")
    def asset(path: str) -> Response:
        try:
            file = (root / path).resolve()
            known = root in file.parents and file.is_file() and file.name != "index.html"
        except (OSError, ValueError):  # a name that no file can have
            known = False
        if not known:
            raise HTTPException(404)
        hashed = file.parent.name == "assets"
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        return FileResponse(
            file, media_type=kind or "application/octet-stream",
            headers={
                "cache-control": "private, max-age=31536000, immutable" if hashed else "no-cache"
            },
        )  # fmt: skip

    return routes
