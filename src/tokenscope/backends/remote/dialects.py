"""How servers that tell texts and no ids are asked, and what their streams say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tokenscope.backends.protocol import Asked, StreamEnd
from tokenscope.backends.remote import shapes
from tokenscope.backends.remote.connection import Connection
from tokenscope.backends.remote.shapes import Entry
from tokenscope.backends.remote.stream import documents, events

ENDS: dict[str, StreamEnd] = {"stop": "eos", "length": "length", "eos_token": "eos"}
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Heard:
    """One event: the text that it adds, the tokens that made it, why it is the last ("": not)."""

    text: str
    rows: tuple[Entry, ...]
    end: StreamEnd | None


class Dialect(Protocol):
    """One way of asking."""

    name: str
    most: int  # candidates of a position that the server tells at most

    def decode(self, asked: Asked, cancelled: Cancelled) -> Iterator[Heard]:
        """The events of one decoding."""
        ...

    def echo(self, text: str, top: int, cancelled: Cancelled) -> list[Entry] | None:
        """The tokens of a text with their logprobs (the first has none); None: not possible."""
        ...


class OpenAI:
    """``/v1/completions``, with log-probabilities of either shape (vLLM, TGI, LM Studio ...)."""

    name = "OpenAI"

    def __init__(self, connection: Connection, model: str, most: int) -> None:
        self._connection, self._model, self.most = connection, model, most
        self.echoes = False

    def decode(self, asked: Asked, cancelled: Cancelled) -> Iterator[Heard]:
        """Streamed."""
        s = asked.sampler
        body: dict[str, Any] = {
            "model": self._model, "prompt": asked.text, "max_tokens": asked.max_new_tokens,
            "stream": True, "logprobs": min(asked.top, self.most),
            "temperature": s.get("temperature", 0.0), "top_p": s.get("top_p", 1.0),
            "seed": int(s.get("seed", 0)) % (1 << 31),
        }  # fmt: skip
        extras = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        body |= {n: s[n] for n, off in extras.items() if s.get(n, off) != off}
        for event in events(self._connection.lines("/v1/completions", body, cancelled)):
            choices = shapes.objects(event.get("choices"), "choices")
            if choices:  # else it tells usage
                yield _heard(choices[0])

    def echo(self, text: str, top: int, cancelled: Cancelled) -> list[Entry] | None:
        """The prompt back (``echo``), where the server does that."""
        if not self.echoes:
            return None
        body = {
            "model": self._model, "prompt": text, "max_tokens": 1, "echo": True,
            "logprobs": min(max(top, 1), self.most), "temperature": 0.0,
        }  # fmt: skip
        answer = self._connection.post("/v1/completions", body, cancelled)
        if cancelled():
            return []
        rows = list(_choice(answer).rows)
        data = "".join(r.came.text for r in rows[:-1])
        return rows[:-1] if data == text else None


def _choice(answer: Any) -> Heard:
    held = answer.get("choices") if isinstance(answer, dict) else None
    choices = shapes.objects(held, "choices")
    if not choices:
        raise shapes.strange("it has no choices")
    return _heard(choices[0])


def _heard(choice: Any) -> Heard:
    text = shapes.field(choice, "text", str, "a choice")
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and "content" in logprobs:
        rows = shapes.entries(logprobs["content"])
    else:
        rows = shapes.legacy(logprobs) if logprobs is not None else []
    end = choice.get("finish_reason")
    return Heard(text, tuple(rows), None if end is None else ENDS.get(str(end), "eos"))


class Ollama:
    """``/api/generate``, raw: one JSON object a line."""

    name = "Ollama"
    most = 20

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._model = connection, model

    def decode(self, asked: Asked, cancelled: Cancelled) -> Iterator[Heard]:
        """Streamed; ``raw``: no template of the server's is put around the prompt."""
        s = asked.sampler
        body = {
            "model": self._model, "prompt": asked.text, "raw": True, "stream": True,
            "logprobs": True, "top_logprobs": min(asked.top, self.most),
            "options": {
                "num_predict": asked.max_new_tokens, "temperature": s.get("temperature", 0.0),
                "top_k": int(s.get("top_k", 0)), "top_p": s.get("top_p", 1.0),
                "min_p": s.get("min_p", 0.0), "seed": int(s.get("seed", 0)) % (1 << 31),
                "repeat_penalty": s.get("repetition_penalty", 1.0), "repeat_last_n": -1,
            },
        }  # fmt: skip
        for line in documents(self._connection.lines("/api/generate", body, cancelled)):
            text = shapes.field(line, "response", str, "a line")
            rows = tuple(shapes.entries(line.get("logprobs")))
            end = ENDS.get(str(line.get("done_reason", "")), "eos") if line.get("done") else None
            yield Heard(text, rows, end)

    def echo(self, text: str, top: int, cancelled: Cancelled) -> list[Entry] | None:
        """It does not score what is given."""
        return None
