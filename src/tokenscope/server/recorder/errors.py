"""Refusals of the house in OpenAI's shape, for what came in under ``/v1``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenscope.server.recorder import shapes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/v1"
STATUS = {409: 400, 413: 400, 422: 400, 507: 500}  # what clients know, for what they do not


def concerns(path: str) -> bool:
    """Whether an address is the recorder's."""
    return path == PREFIX or path.startswith(PREFIX + "/")


class OpenAIErrors:
    """ASGI middleware: an ErrorResponse under ``/v1`` leaves as an error that clients read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not concerns(scope["path"]):
            await self.app(scope, receive, send)
            return
        head: Message | None = None
        parts: list[bytes] = []

        async def sending(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] >= 400:
                head = message
                return
            if head is None:
                await send(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await _told(head, b"".join(parts), send)

        await self.app(scope, receive, sending)


async def _told(head: Message, body: bytes, send: Send) -> None:
    try:
        said: dict[str, Any] = json.loads(body)
        status: int = head["status"]
        status = STATUS.get(status, status)
        body = json.dumps(
            shapes.error_body(status, said["code"], said["message"], said["field"])
        ).encode()
        head = {**head, "status": status}
    except (ValueError, KeyError, TypeError):
        pass  # no error of ours: as it is
    headers = [(n, v) for n, v in head["headers"] if n.lower() != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**head, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
