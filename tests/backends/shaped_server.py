"""A real llama.cpp server's numbers in the shapes of other servers: vLLM's and Ollama's."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tests.backends.faulty_server import STREAM, FaultyServer, event, whole


class ShapedServer(FaultyServer):
    """``kind``: ``vllm`` (legacy shape, echoes prompts, 404 for the rest), ``chat-like`` (the other
    shape, no echo, at most 5 candidates), ``ollama``, ``null`` (no log-probabilities)."""

    def __init__(self, behind: str, kind: str) -> None:
        super().__init__()
        self._client = httpx2.Client(base_url=behind, timeout=60)
        self.kind = kind
        self.fault = self._answer

    def _answer(self, path: str, body: dict[str, Any]) -> Any:
        ollama = self.kind == "ollama"
        if path == "/v1/models" and not ollama:
            return whole({"data": [{"id": "coder", "max_model_len": 512}]})
        if path == "/v1/completions" and not ollama:
            return self._completions(body)
        if path == "/api/version" and ollama:
            return whole({"version": "1"})
        if path == "/api/tags" and ollama:
            names = ("coder:1b", "other:7b")
            return whole({"models": [{"name": n, "digest": n * 2, "details": {
                "quantization_level": "F32"}} for n in names]})  # fmt: skip
        if path == "/api/generate" and ollama:
            assert body["raw"] is True
            rows = self._decoded(body["prompt"], body["options"]["num_predict"],
                                 body["top_logprobs"])  # fmt: skip
            for row in [*rows, *(t for r in rows for t in r["top_logprobs"])]:
                del row["id"]
            lines = [{"response": _text(r), "done": False, "logprobs": [r]} for r in rows] + [
                {"response": "", "done": True, "done_reason": "length"}
            ]
            return [STREAM, *(json.dumps(line).encode() + b"\n" for line in lines)]
        return whole({"detail": "Not Found"}, "404 Not Found")

    def _completions(self, body: dict[str, Any]) -> Any:
        k = body["logprobs"]
        if self.kind == "chat-like" and (k > 5 or body.get("echo")):
            return whole({"error": {"message": "no"}}, "400 Bad Request")
        if body.get("echo"):
            return whole({"choices": [self._echo(body["prompt"], k)]})
        rows = self._decoded(body["prompt"], body["max_tokens"], k)
        choices = [{"index": 0, "text": _text(r), "logprobs": self._shape([r]),
                    "finish_reason": None} for r in rows]  # fmt: skip
        choices[-1]["finish_reason"] = "length"
        if body.get("stream"):
            done = [event({"choices": [], "usage": {}}), b"data: [DONE]\n\n"]
            return [STREAM, *(event({"choices": [c]}) for c in choices), *done]
        return whole({"choices": choices[:1]})

    def _shape(self, rows: list[dict[str, Any]]) -> Any:
        if self.kind == "null":
            return None
        if self.kind == "chat-like":
            return {"content": rows}
        return {
            "tokens": [_text(r) for r in rows], "token_logprobs": [r["logprob"] for r in rows],
            # vLLM adds the token that came where it lies outside the top
            "top_logprobs": [{_text(t): t["logprob"] for t in [*r["top_logprobs"], r]}
                             for r in rows],
        }  # fmt: skip

    def _echo(self, prompt: str, k: int) -> dict[str, Any]:
        asked = {"content": prompt, "with_pieces": True, "parse_special": False}
        tokens = self._client.post("/tokenize", json=asked).json()["tokens"]
        rows = [self._after([t["id"] for t in tokens[:n]], token["id"], k)
                for n, token in enumerate(tokens) if n]  # fmt: skip
        last = self._after([t["id"] for t in tokens], 261, k)
        shape = self._shape([*rows, last])
        for name, first in (("tokens", str(tokens[0]["piece"])), ("token_logprobs", None),
                            ("top_logprobs", None)):  # fmt: skip
            shape[name].insert(0, first)
        return {"text": prompt, "logprobs": shape, "finish_reason": "length"}

    def _after(self, ids: list[int], forced: int, k: int) -> dict[str, Any]:
        body = {"prompt": ids, "n_predict": 1, "n_probs": k, "temperature": 0,
                "logit_bias": [[forced, 1e9]]}  # fmt: skip
        answer = self._client.post("/completion", json=body).json()
        return answer["completion_probabilities"][0]  # type: ignore[no-any-return]

    def _decoded(self, prompt: str, count: int, k: int) -> list[dict[str, Any]]:
        body = {"prompt": prompt, "n_predict": count, "n_probs": k, "temperature": 0}
        answer = self._client.post("/completion", json=body).json()
        return answer["completion_probabilities"]  # type: ignore[no-any-return]


def _text(row: dict[str, Any]) -> str:
    return bytes(row["bytes"]).decode("utf-8", "replace")
