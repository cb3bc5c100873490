"""The outermost guard: nothing gets past it but what comes from this user's own page.

In order: Host allowlist (DNS rebinding), Origin and Sec-Fetch-Site (cross-site requests), then the
session cookie or a bearer token. HTTP and WebSocket scopes alike; no route can opt out. Under
``/v1``, where the recorder is on: its own key, and nothing that a browser sends.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from tokenscope.server.access import Access
from tokenscope.server.faults import refusal
from tokenscope.server.recorder import shapes
from tokenscope.server.recorder.errors import concerns

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN = (
    "TokenScope: this browser has not signed in.\n\n"
    "Open the address that `tokenscope serve` printed; it carries the key.\n"
)


class Guard:
    """ASGI middleware; must be the outermost. Also puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = self._judge(scope)
        if answer is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        app = self.app if answer is None else answer
        await app(scope, receive, _with_headers(send))

    def _judge(self, scope: Scope) -> Response | None:
        """None to let it pass, else the answer."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.knows_host(hosts[0]):
            return refusal(421, "bad_host", "this server does not go by that name")
        if self.access.recorder is not None and concerns(scope["path"]):
            return self._program(headers, self.access.recorder)
        method = scope.get("method", "GET")
        opening = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if not self._same_site(headers, hosts[0], opening):
            return refusal(403, "cross_site", "requests from other sites are refused")
        if scope["type"] == "http" and scope["path"] == "/" and method == "GET":
            exchanged = self._exchange(scope)
            if exchanged is not None:
                return exchanged
        if self._bearer(headers):
            return None
        if not self._cookie(headers):
            if scope["path"].startswith("/api"):
                return refusal(401, "no_session", "open the address that the server printed")
            return PlainTextResponse(SIGN_IN, 401)
        named = "origin" in headers or "sec-fetch-site" in headers
        if method not in SAFE_METHODS and not named:
            return refusal(403, "cross_site", "a browser names where a request comes from")
        if scope["type"] == "websocket" and "origin" not in headers:
            return refusal(403, "cross_site", "a browser names where a request comes from")
        return None

    def _program(self, headers: Headers, key: str) -> Response | None:
        """Under ``/v1``: programs with the recorder's own key; no browsers, no cookies."""
        if "origin" in headers or "sec-fetch-site" in headers:
            return shapes.error(403, "no_browser", "pages of a browser may not ask here")
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not _equal(value.strip(), key):
            return shapes.error(401, "invalid_api_key", "this is not the recorder's key")
        return None

    def _same_site(self, headers: Headers, host: str, opening: bool) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            parts = _parts(origin)
            scheme = "https" if self.access.https else "http"
            if parts is None or (parts.scheme, parts.netloc.lower()) != (scheme, host.lower()):
                return False
        site = headers.get("sec-fetch-site")
        # a link on another site may open the page; it gets no cookie (SameSite=Strict) then
        return site in (None, "same-origin", "none") or opening

    def _exchange(self, scope: Scope) -> Response | None:
        """``/?token=...`` becomes a cookie and an address without the key."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = query.pop("token", None)
        if given is None:
            return None
        if len(given) != 1 or not _equal(given[0], self.access.token):
            return PlainTextResponse(SIGN_IN, 401)
        rest = urlencode(query, doseq=True)
        answer = RedirectResponse("/" + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(
            self.access.cookie, self.access.pass_, httponly=True, samesite="strict",
            secure=self.access.https, path="/",
        )  # fmt: skip
        return answer

    def _bearer(self, headers: Headers) -> bool:
        kind, _, value = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and _equal(value.strip(), self.access.token)

    def _cookie(self, headers: Headers) -> bool:
        for line in headers.getlist("cookie"):
            try:
                held = SimpleCookie(line).get(self.access.cookie)
            except CookieError:
                continue
            if held is not None and _equal(held.value, self.access.pass_):
                return True
        return False


def _parts(origin: str) -> SplitResult | None:
    try:
        return urlsplit(origin) if origin.isascii() else None
    except ValueError:  # such as "http://["
        return None


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())


# Own scripts and styles only, nothing inline, no HTML from strings (Trusted Types). Style
# attributes are let through: they run nothing and load nothing.
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "style-src-attr 'unsafe-inline'",
    "img-src 'self' data: blob:", "font-src 'self'", "connect-src 'self'", "worker-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'", "trusted-types svelte-trusted-html",
))  # fmt: skip
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
    b"x-frame-options": b"DENY",
    b"cache-control": b"no-store",
}


def _with_headers(send: Send) -> Send:
    """Every answer carries the headers; one that sets a header itself keeps its own."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            held = list(message.get("headers", ()))
            names = {name.lower() for name, _ in held}
            held += [(n, v) for n, v in HEADERS.items() if n not in names]
            message = {**message, "headers": held}
        await send(message)

    return sending
