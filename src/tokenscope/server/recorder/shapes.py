"""Answers in OpenAI's shapes: choices, their log-probabilities, usage, errors."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from tokenscope.server.recorder.text import Word

LEAST = -9999.0  # how ln 0 is written
KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         429: "rate_limit_error", 503: "overloaded_error"}  # fmt: skip


def number(logprob: float) -> float | None:
    """A logprob as JSON; null where it is not known."""
    if math.isnan(logprob):
        return None
    return max(logprob, LEAST)


def spelt(data: bytes) -> str:
    """The text of a token; bytes that are none alone are written out."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{b:02x}" for b in data)


def chat_logprobs(words: Sequence[Word]) -> dict[str, Any]:
    """The shape of chat completions."""
    return {
        "content": [
            {
                "token": spelt(w.piece), "logprob": number(w.logprob), "bytes": list(w.piece),
                "top_logprobs": [
                    {"token": spelt(b), "logprob": number(p), "bytes": list(b)} for b, p in w.top
                ],
            }
            for w in words
        ],
        "refusal": None,
    }  # fmt: skip


def legacy_logprobs(words: Sequence[Word]) -> dict[str, Any]:
    """The shape of completions."""
    return {
        "tokens": [spelt(w.piece) for w in words],
        "token_logprobs": [number(w.logprob) for w in words],
        "top_logprobs": [
            None if math.isnan(w.logprob) else {spelt(b): number(p) for b, p in w.top}
            for w in words
        ],
        "text_offset": [w.at for w in words],
    }  # fmt: skip


def usage(prompt: int, made: int) -> dict[str, int]:
    """How many tokens went in and came out."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as clients know it."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error(status: int, code: str, message: str, param: str | None = None) -> Response:
    """The same as a response."""
    body = json.dumps(error_body(status, code, message, param))
    return Response(body, status, media_type="application/json")
