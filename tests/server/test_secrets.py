"""Nothing that a client sends is in a log: not at any level, not when something fails."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.server.conftest import TOKEN, Served

KINDS = (
    "prompt", "suffix", "chat", "system", "title", "rename", "code", "text", "stop", "language",
    "model", "path", "query", "header", "cookie", "bearer", "origin", "event", "file", "contrast",
)  # fmt: skip


@pytest.fixture
def secret() -> Iterator[Callable[[str], str]]:
    """`secret("prompt")`: a new one that no log may hold."""
    made: list[str] = []

    def make(kind: str) -> str:
        made.append(f"sk-{kind}-{secrets.token_hex(8)}")
        return made[-1]

    make.all = made  # type: ignore[attr-defined]
    return make


def plant(served: Served, secret: Callable[[str], str]) -> None:
    """What a careless user sends, well-formed and not, to every kind of route."""
    ask = served.client
    session = ask.post("/api/sessions", json={"title": secret("title")}).json()["id"]
    short = {"max_new_tokens": 2, "attention": "none"}
    generate = f"/api/sessions/{session}/generate"
    end = served.events(generate, {
        "prompt": f"KEY = '{secret('prompt')}'", "settings": {**short, "stop": [secret("stop")]},
    })[-1]  # fmt: skip
    node = end["node"]["id"]
    served.events(f"/api/sessions/{session}/score", {"text": f"token = '{secret('code')}'"})
    served.events(f"/api/nodes/{node}/fork",
                  {"at": 3, "text": f"x = '{secret('text')}'", "settings": short})  # fmt: skip
    ask.patch(f"/api/nodes/{node}", json={"title": secret("rename"), "note": secret("note")})
    ask.patch(f"/api/sessions/{session}", json={"title": secret("rename")})
    # refused: what is refused must not be said in the log either
    messages = [{"role": "user", "content": secret("chat")},
                {"role": "system", "content": secret("system")}]  # fmt: skip
    bad = [
        {"messages": messages, "settings": short},
        {"prompt": secret("prompt"), "suffix": secret("suffix"), "settings": short},
        {"prompt": secret("prompt"), "language": secret("language"), "settings": short},
        {"prompt": secret("prompt"), "model": secret("model"), "settings": short},
        {"prompt": secret("prompt"), secret("file"): secret("file")},
        {"prompt": [secret("prompt")], "settings": {**short, "temperature": secret("text")}},
    ]
    for body in bad:
        ask.post(generate, json=body)
    ask.post(generate, content=f'{{"prompt": "{secret("prompt")}')
    ask.post(generate, content=secret("prompt").encode() + b"\xff",
             headers={"content-type": secret("header")})  # fmt: skip
    ask.post(f"/api/nodes/{node}/explain", json={"at": 3, "contrast": secret("contrast")})
    for path in (secret("path"), f"nodes/{secret('path')}", f"sessions/{secret('path')}/export",
                 f"models/{secret('path')}/load", f"runs/{secret('path')}"):  # fmt: skip
        ask.get(f"/api/{path}")
        ask.post(f"/api/{path}", json={secret("file"): secret("text")})
    for name in ("columns?names=", "find?pattern=", "matrix?head=", "attended/1?layer="):
        ask.get(f"/api/nodes/{node}/{name}{secret('query')}")
    ask.get(f"/{secret('file')}.html?token={secret('query')}")
    for name in ("x-api-key", "referer", "user-agent", "origin", "host", "authorization",
                 "last-event-id", "x-forwarded-for"):  # fmt: skip
        ask.get("/api/runs", headers={name: secret("header")})
    ask.get("/api/runs", headers={"cookie": f"session={secret('cookie')}"})
    ask.get("/api/runs", headers={"authorization": f"Bearer {secret('bearer')}"})
    ask.get(f"/api/events?session={session}", headers={"last-event-id": secret("event"),
                                                      "origin": secret("origin")})  # fmt: skip
    served.idle()


def test_no_log_holds_what_clients_send(
    serve: Callable[..., Served], secret: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    # what the test's own client logs is not the server's
    for name in ("httpx2", "httpcore2", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with caplog.at_level(logging.DEBUG):
        for name in ("tokenscope", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
            caplog.set_level(logging.DEBUG, name)
        plant(serve(), secret)
    said = [logging.Formatter("%(message)s").format(r) for r in caplog.records]
    planted: list[str] = secret.all  # type: ignore[attr-defined]
    assert len(planted) >= 50
    assert len({kind for kind in KINDS if any(f"-{kind}-" in s for s in planted)}) == len(KINDS)
    found = {s for s in [*planted, TOKEN] for line in said if s in line}
    assert not found


def test_a_crash_in_a_run_is_logged_without_its_prompt(
    serve: Callable[..., Served], secret: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(ids: object) -> object:
        raise RuntimeError("the kernel broke")

    caplog.set_level(logging.DEBUG, "tokenscope")
    served = serve(script=broken)
    body = {"prompt": f"KEY = '{secret('prompt')}'", "settings": {"max_new_tokens": 2}}
    events = served.events(f"/api/sessions/{served.session()}/generate", body)
    assert events[-1]["type"] == "error"
    assert served.idle()
    said = "\n".join(logging.Formatter().format(r) for r in caplog.records)
    assert "the kernel broke" in said
    assert "sk-prompt-" not in said and "sk-prompt-" not in str(events[-1])
