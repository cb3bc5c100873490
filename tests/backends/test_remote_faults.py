"""Servers that fail: one clear error each, bounded memory, what had come is kept, no key told."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.backends import faulty_server as faulty
from tests.backends.faulty_server import FaultyServer, event, last, token, whole
from tokenscope.backends.remote.connection import Limits
from tokenscope.backends.remote.load import load
from tokenscope.errors import BusyError, CapacityError, InputError, RemoteError, TokenScopeError
from tokenscope.runs.generate import Run, Settings, generate
from tokenscope.runs.model import Model

KEY = "sk-very-secret"
PROMPT = "def secret_prompt():"
QUICK = Limits(connect=2.0, silence=0.6, tries=3, pause=0.02)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("TOKENSCOPE_SERVER_KEY", KEY)
    made = FaultyServer()
    yield made
    made.close()


@pytest.fixture
def model(server: FaultyServer) -> Iterator[Model]:
    made = Model(load(server.address, limits=QUICK))
    yield made
    made.close()


def begun(model: Model, count: int = 8) -> Run:
    return generate(model, prompt=PROMPT, settings=Settings(max_new_tokens=count))


def failing(server: FaultyServer, model: Model, parts: Any) -> tuple[TokenScopeError, str]:
    """The error of a run whose stream is spoilt, and the text that is kept."""
    server.fault = lambda path, body: parts if body.get("stream") else None
    run = begun(model)
    with pytest.raises(TokenScopeError) as caught:
        run.result()
    said = str(caught.value)
    assert KEY not in said and "secret" not in said and len(said) < 300
    assert run.finish == "error"
    server.fault = lambda path, body: None
    assert begun(model, 3).result().finish == "length", "the next run works"
    return caught.value, run.trace.text[len(PROMPT) :]


def test_the_fake_works(
    server: FaultyServer, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        trace = begun(model).result()
    assert KEY not in caplog.text and "secret" not in caplog.text
    assert trace.text == PROMPT + "bcdefghi" and trace.finish == "length"
    assert KEY in " ".join(server.headers), "the key is sent"
    assert KEY not in json.dumps(trace.origin.to_json()) + repr(model.info)


S = faulty.STREAM
CASES: dict[str, tuple[Any, type[TokenScopeError], str, str]] = {
    "cut before anything": ([b""], RemoteError, "cut in the middle", ""),
    "cut in the header": ([b"HTTP/1.1 200 OK\r\ncontent-ty"], RemoteError, "cut in the", ""),
    "no HTTP at all": ([b"\x16\x03\x01 hello\r\n\r\n"], RemoteError, "cut in the middle", ""),
    "cut between events": ([S, token(1, 20), token(2, 20)], RemoteError, "before it said", "bc"),
    "cut in an event": ([S, token(1, 20), token(2, 20)[:40]], RemoteError, "no JSON", "b"),
    "cut, and the length promised more": (
        [whole(b"x").replace(b"length: 1", b"length: 999")], RemoteError, "cut in the", ""),
    "the length says less": (
        [whole(token(1, 20)).replace(b"length: ", b"length: 20\r\nx-was: ")],
        RemoteError, "no JSON", ""),
    "done without an end": ([S, token(1, 20), b"data: [DONE]\n\n"], RemoteError, "before it", "b"),
    "no JSON": ([S, token(1, 20), b"data: {nope\n\n"], RemoteError, "no JSON", "b"),
    "not UTF-8": ([S, b"data: \xff\xfe\n\n"], RemoteError, "no JSON", ""),
    "deep JSON": ([S, b"data: " + b"[" * 100_000 + b"\n\n"], RemoteError, "no JSON", ""),
    "no object": ([S, token(1, 20), event([1])], RemoteError, "no object", "b"),
    "an error in the middle": (
        [S, token(1, 20), event({"error": {"message": PROMPT, "type": "server_error"}})],
        RemoteError, "gave up in the middle", "b"),
    "fields of wrong types": ([S, token(1, 20, tokens_predicted="1")], RemoteError, "shape", ""),
    "probabilities of a wrong shape": (
        [S, token(1, 20, completion_probabilities=[7])], RemoteError, "shape", ""),
    "a logprob above 0": (
        [S, token(1, 20, completion_probabilities=[faulty.entry(70, 20, 0.7)])],
        RemoteError, "above 0", ""),
    "NaN": ([S, token(1, 20, completion_probabilities=[faulty.entry(70, 20, float("nan"))])],
            RemoteError, "no number", ""),
    "more than 1 in all": (
        [S, token(1, 20, completion_probabilities=[
            {**faulty.entry(70, 1), "top_logprobs": [faulty._candidate(i, -0.1) for i in (1, 2)]}
        ])], RemoteError, "more than 1", ""),
    "an id outside the vocabulary": (
        [S, token(1, 20, completion_probabilities=[{**faulty.entry(70, 3), "id": 10**6}])],
        RemoteError, "not in its vocabulary", ""),
    "more tokens than asked for": (
        [S, *(token(i, 20) for i in range(1, 20)), last(19)], RemoteError, "count", "bcdefghi"),
    "silence": ([S, token(1, 20), 1.5], RemoteError, "nothing for too long", "b"),
    "silence from the start": ([1.5], RemoteError, "nothing for too long", ""),
    "an endless event": (
        [S, token(1, 20), b"data: ", *[b"x" * (1 << 20)] * 24], RemoteError, "more than", "b"),
    "500": ([whole({"error": PROMPT}, "500 Oops")], RemoteError, "failed (500)", ""),
    "404": ([whole({}, "404 Not Found")], RemoteError, "no such model or route", ""),
    "401": ([whole({}, "401 Unauthorized")], RemoteError, "wants a key", ""),
    "400": ([whole({"error": {"message": PROMPT}}, "400 Bad")], InputError, "refused it", ""),
    "context": ([whole({"error": {"type": "exceed_context_size_error", "n_ctx": 77}}, "400 Bad")],
                CapacityError, "does not fit", ""),
    "429 for ever": ([whole({}, "429 Too Many")], BusyError, "busy", ""),
    "503 for long": ([whole({}, "503 No", "retry-after: 3600\r\n")], BusyError, "busy", ""),
    "a redirect": ([whole({}, "307 Go", "location: http://192.0.2.1/\r\n")], RemoteError,
                   "another address", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_one_clear_error(server: FaultyServer, model: Model, name: str) -> None:
    parts, kind, says, kept = CASES[name]
    error, text = failing(server, model, parts)
    assert type(error) is kind and says in str(error), error
    assert text == kept
    if name == "context":
        assert error.fits == 77  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ["429 Too Many", "502 Bad", "503 No", "504 Late"])
def test_what_may_heal_is_tried_again(server: FaultyServer, model: Model, status: str) -> None:
    left = [whole({}, status, "retry-after: 0\r\n"), b""]  # a refusal, then a cut connection
    server.fault = lambda path, body: left.pop() if left and body.get("stream") else None
    assert begun(model).result().text == PROMPT + "bcdefghi"
    assert not left


def test_a_slow_server_is_waited_for(server: FaultyServer, model: Model) -> None:
    server.fault = lambda path, body: (
        [faulty.STREAM, *(x for n in range(1, 5) for x in (0.3, token(n, 20))), last(4)]
        if body.get("stream") else None
    )  # fmt: skip
    assert begun(model, 4).result().text == PROMPT + "bcde"


def test_cancel_does_not_wait_for_the_server(server: FaultyServer, model: Model) -> None:
    server.fault = lambda path, body: (
        [faulty.STREAM, token(1, 20), 0.5] if body.get("stream") else None
    )
    run = begun(model)
    for step in run:
        if not step.prompt and step.end > len(PROMPT):
            run.cancel()
            began = time.monotonic()
    assert time.monotonic() - began < 0.3 and run.finish == "cancelled"


def test_memory_stays_bounded(server: FaultyServer, model: Model) -> None:
    """A gigabyte of comments: what is not needed is not kept."""
    noise = b": " + b"x" * ((1 << 20) - 3) + b"\n"
    server.fault = lambda path, body: (
        [faulty.STREAM, *[noise] * 200, token(1, 20), last(1)] if body.get("stream") else None
    )
    tracemalloc.start()
    assert begun(model, 1).result().text == PROMPT + "b"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize(("path", "value"), [
    ("/props", {"nothing": 1}), ("/props", [1]), ("/v1/models", {}), ("/v1/models", {"data": [3]}),
    ("/v1/models", {"data": [{"id": "m", "meta": {"n_vocab": 10**9}}]}),
    ("/tokenize", {"tokens": "x"}), ("/completion", {"completion_probabilities": []}),
    ("/completion", {"completion_probabilities": [faulty.entry(1, 5)]}), ("/completion", 3),
    ("/v1/models", {"data": [{"id": "m", "meta": None}]}),
])  # fmt: skip
def test_who_is_no_such_server_is_refused_at_connect(
    server: FaultyServer, path: str, value: Any
) -> None:
    server.fault = lambda asked, body: whole(value) if asked == path else None
    with pytest.raises(TokenScopeError):
        load(server.address, limits=QUICK)
