"""A llama.cpp server that fails in a way of one's choice: the real one's answers, spoilt.

It speaks HTTP over plain sockets, so that it can lie about lengths and cut what it sends.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

WORDS = [bytes([i]) for i in range(32, 127)]  # the vocabulary: printable ASCII, then one special
SIZE = len(WORDS) + 1
SPECIAL = SIZE - 1


def entry(token: int, k: int, logprob: float = -0.5) -> dict[str, Any]:
    """A position whose likeliest token is ``token``."""
    ids = [token, *(i for i in range(SIZE) if i != token)][:k]
    row = [_candidate(i, logprob if n == 0 else -6.0 - 0.1 * n) for n, i in enumerate(ids)]
    return {**row[0], "top_logprobs": row}


def _candidate(token: int, logprob: float) -> dict[str, Any]:
    piece = WORDS[token] if token < SPECIAL else b""
    return {"id": token, "token": piece.decode(), "bytes": list(piece), "logprob": logprob}


class FaultyServer:
    """``fault(path, body)`` gives None (answer well), or bytes to send as they are, or a list of
    bytes and pauses (numbers of seconds); a True at its end keeps the connection open."""

    def __init__(self) -> None:
        self.fault: Callable[[str, dict[str, Any]], Any] = lambda path, body: None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            try:
                head = file.readline().decode()
                length, headers = 0, []
                while (line := file.readline().strip()) != b"":
                    headers.append(line.decode())
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                path = head.split()[1]
                body = json.loads(file.read(length)) if length else {}
                self.asked.append((path, body))
                self.headers += headers
                said = self.fault(path, body)
                parts = good(path, body) if said is None else said
                for part in parts if isinstance(parts, list) else [parts]:
                    if isinstance(part, bytes):
                        connection.sendall(part)
                    else:
                        time.sleep(part)
            except (OSError, IndexError):
                return


def whole(value: Any, status: str = "200 OK", extra: str = "") -> bytes:
    """A JSON answer with a right length."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(data)}\r\n{extra}\r\n".encode() + data


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def token(n: int, k: int, **changes: Any) -> bytes:
    """The n-th event of a stream (from 1): a letter."""
    row = entry(ord("a") - 32 + n % 26, k)
    return event({"content": row["token"], "tokens": [row["id"]], "stop": False,
                  "tokens_predicted": n, "completion_probabilities": [row], **changes})  # fmt: skip


def last(n: int) -> bytes:
    return event({"content": "", "stop": True, "tokens_predicted": n, "stop_type": "limit"})


def good(path: str, body: dict[str, Any]) -> Any:
    """What a server that works says."""
    if path == "/props":
        return whole({"default_generation_settings": {"n_ctx": 4096}, "chat_template": ""})
    if path == "/v1/models":
        return whole({"data": [{"id": "m", "meta": {"n_vocab": SIZE, "n_params": 7}}]})
    if path == "/tokenize":
        return whole({"tokens": [b - 32 for b in body["content"].encode()]})
    if path == "/detokenize":
        return whole({"content": "<end>"})
    if path != "/completion":
        return whole({"error": {"code": 404}}, "404 Not Found")
    k = body["n_probs"]
    if body.get("stream"):
        n = body["n_predict"]
        return [STREAM, *(token(i, k) for i in range(1, n + 1)), last(n)]
    forced = int(body["logit_bias"][0][0])
    return whole({"completion_probabilities": [entry(forced, k)]})
