"""What a request body may be: small, JSON, Unicode, finite, shallow. Checked before any route."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from tokenscope.errors import InputError
from tokenscope.server.faults import of_error, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2 << 20
# a file that was handed on: read by the guarded reader, never parsed as JSON
FILES = {"/api/sessions/import": 256 << 20}
MOST_DEPTH = 64
MOST_DIGITS = 18
BODY_TIMEOUT = 30.0
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class Bodies:
    """ASGI middleware: reads the whole body, refuses what is no plain JSON, hands it on."""

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        file = FILES.get(scope["path"])
        most = self.most if file is None else file
        try:
            body = await asyncio.wait_for(self._read(headers, receive, most), BODY_TIMEOUT)
        except TimeoutError:
            await refusal(408, "slow", "the body did not arrive in time")(scope, receive, send)
            return
        if body is None:
            answer = refusal(413, "too_large", f"a body may hold {most} bytes")
            await answer(scope, receive, send)
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if file is not None:
            if kind != "application/octet-stream":
                answer = refusal(415, "bad_type", "send the file (application/octet-stream)")
                await answer(scope, receive, send)
                return
        elif body:
            if kind != "application/json":
                await refusal(415, "bad_type", "send JSON (application/json)")(scope, receive, send)
                return
            try:
                check(body)
            except InputError as error:
                await of_error(error)(scope, receive, send)
                return
        await self.app(scope, _replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive, most: int) -> bytes | None:
        """The body, or None when it is too large."""
        said = headers.get("content-length", "0")
        if not said.isdigit() or int(said[:20]) > most:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)


def check(body: bytes) -> None:
    """Raises InputError unless the body is JSON with valid Unicode, finite numbers, depth <= 64."""
    if depth(body) > MOST_DEPTH:  # before parsing: the parser recurses
        raise InputError("body", f"is nested deeper than {MOST_DEPTH}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("body", "is not UTF-8") from None
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_small_int)
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError("body", "is not JSON") from None
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("body", "holds half of a surrogate pair, which is no text") from None
    except ValueError:
        raise InputError("body", "holds a number too large for a double") from None


def depth(body: bytes) -> int:
    """How deep brackets nest, outside strings. Linear; does not recurse."""
    deepest = level = 0
    for found in _STRUCTURE.finditer(body):
        first = found.group()[:1]
        if first in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif first in b"]}":
            level -= 1
    return deepest


def _no_constant(_: str) -> Any:
    raise InputError("body", "holds a number that is not finite")


def _small_int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise InputError("body", "holds a whole number that is too large")
    return int(digits)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
