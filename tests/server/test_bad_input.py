"""Whatever comes in: a clear 4xx that names the field, no echo, and the server lives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tokenscope.server.bodies import MOST_BYTES, check, depth

if TYPE_CHECKING:
    from conftest import Served

ECHO = "ECHOECHO"
JSON = {"content-type": "application/json"}


def refused(answer: Any, status: int, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "message", "field", "fits"}
    assert ECHO not in answer.text
    assert len(answer.text) < 1000
    if field is not None:
        assert body["field"] == field, body


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"null", 422),
        (b"[]", 422),
        (b'"ECHOECHO"', 422),
        (b"\xff\xfe", 422),
        (b'{"prompt": "\xc3\x28ECHOECHO"}', 422),
        (b'{"prompt": "ECHOECHO \\ud800"}', 422),
        (b'{"ECHOECHO\\udfff": 1}', 422),
        (b'{"prompt": "a", "settings": {"temperature": NaN}}', 422),
        (b'{"prompt": "a", "settings": {"temperature": -Infinity}}', 422),
        (b'{"prompt": "a", "settings": {"temperature": 1e999}}', 422),
        (b'{"prompt": "a", "settings": {"seed": ' + b"9" * 5000 + b"}}", 422),
        (b"[" * 100_000, 422),
        (b'{"a":' * 65 + b"1" + b"}" * 65, 422),
        (b'{"prompt": "' + b"a" * (MOST_BYTES + 1) + b'"}', 413),
    ],
    ids=lambda v: repr(v[:40]) if isinstance(v, bytes) else "",
)
def test_bodies_that_are_no_plain_json(served: Served, raw: bytes, status: int) -> None:
    path = f"/api/sessions/{served.session()}/generate"
    refused(served.client.post(path, content=raw, headers=JSON), status)
    assert served.generate(max_new_tokens=1)[-1]["type"] == "end"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": []}, "prompt"),
        ({"messages": [], "suffix": "x"}, "suffix"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ["ECHOECHO"]}, "prompt"),
        ({"prompt": "a", "ECHOECHO": 1}, "body"),
        ({"prompt": "a", "settings": {"ECHOECHO": 1}}, "settings"),
        ({"prompt": "a", "settings": {"temperature": -1}}, "settings.temperature"),
        ({"prompt": "a", "settings": {"temperature": "ECHOECHO"}}, "settings.temperature"),
        ({"prompt": "a", "settings": {"temperature": True}}, "settings.temperature"),
        ({"prompt": "a", "settings": {"top_p": 0}}, "settings.top_p"),
        ({"prompt": "a", "settings": {"max_new_tokens": -1}}, "settings.max_new_tokens"),
        ({"prompt": "a", "settings": {"max_new_tokens": 1.5}}, "settings.max_new_tokens"),
        ({"prompt": "a", "settings": {"max_new_tokens": 10**17}}, "settings.max_new_tokens"),
        ({"prompt": "a", "settings": {"seed": 2**55}}, "settings.seed"),
        ({"prompt": "a", "settings": {"stop": [""]}}, "settings.stop.0"),
        ({"prompt": "a", "settings": {"stop": ["x"] * 17}}, "settings.stop"),
        ({"prompt": "a", "settings": {"attention": "ECHOECHO"}}, "settings.attention"),
        ({"messages": [{"role": "ECHOECHO", "content": ""}]}, "messages.0.role"),
        ({"prompt": "x" * 1_000_001}, "prompt"),
        ({"prompt": "a", "language": "x" * 33}, "language"),
    ],
    ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else "",
)
def test_fields_that_make_no_sense(served: Served, body: dict[str, Any], field: str) -> None:
    path = f"/api/sessions/{served.session()}/generate"
    refused(served.client.post(path, json=body), 422, field)
    assert served.house.jobs.count == 0


def test_an_empty_prompt_of_a_model_without_start_token(served: Served) -> None:
    path = f"/api/sessions/{served.session()}/generate"
    refused(served.client.post(path, json={"prompt": ""}), 422)


def test_a_prompt_of_a_megabyte_says_how_much_would_fit(served: Served) -> None:
    path = f"/api/sessions/{served.session()}/generate"
    answer = served.client.post(path, json={"prompt": "x" * 1_000_000})
    refused(answer, 413)
    assert 0 < answer.json()["fits"] <= 20_000
    assert served.house.jobs.count == 0


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"token_id": 999_999}, 422, None),
        ({"token_id": 2**40}, 422, None),
        ({"token_id": -1}, 422, "token_id"),
        ({"token_ids": [65, 999_999]}, 422, None),
        ({"token_ids": []}, 422, None),
        ({"token_id": 1, "text": "x"}, 422, "token_id"),
        ({}, 422, "token_id"),
        ({"at": 10_000, "token_id": 1}, 422, "at"),
        ({"at": 10**17, "token_id": 1}, 422, "at"),
        ({"at": -1, "token_id": 1}, 422, "at"),
        ({"at": None, "token_id": 1}, 422, "at"),
    ],
    ids=str,
)
def test_forks_of_nothing(
    served: Served, change: dict[str, Any], status: int, field: str | None
) -> None:
    node = served.generate(max_new_tokens=2)[-1]["node"]["id"]
    answer = served.client.post(f"/api/nodes/{node}/fork", json={"at": 3, **change})
    if change == {"token_ids": []}:
        assert answer.status_code == 202  # nothing put in: goes on from there
        return
    refused(answer, status, field)


def test_paths_of_nothing(served: Served) -> None:
    node = served.generate(max_new_tokens=2)[-1]["node"]["id"]
    at = f"/api/nodes/{node}"
    get = served.client.get
    for path, status in (
        ("/api/nodes/none", 404),
        ("/api/nodes/%00", 404),
        ("/api/nodes/" + "x" * 5000, 404),
        ("/api/nodes/%F0%9F%98%80", 404),
        ("/api/sessions/none", 404),
        ("/api/sessions/none/export", 404),
        ("/api/none", 404),
        ("/api/", 404),
        (f"{at}/columns", 422),
        (f"{at}/columns?names=", 422),
        (f"{at}/columns?names=ECHOECHO%00", 422),
        (f"{at}/columns?names=entropy,", 422),
        (f"{at}/attention/0", 422),
        (f"{at}/attention/-1", 422),
        (f"{at}/attention/99", 422),
        (f"{at}/attention/{'9' * 5000}", 422),
        (f"{at}/attention/one", 422),
        (f"{at}/attended/3?layer=99", 422),
        (f"{at}/attended/3?layer=-1", 422),
        (f"{at}/attended/3?layer=%C2%B2", 422),
        (f"{at}/attended/3?head={'9' * 11}", 422),
    ):
        answer = get(path)
        assert answer.status_code == status, (path[:80], answer.text)
        if "ECHO" not in path:
            refused(answer, status)
    session = served.session()
    refused(get(f"/api/sessions/{session}/export?format=xml"), 422, "format")
    refused(served.client.put(f"/api/sessions/{session}", json={}), 405)
    for body in ({"title": ""}, {"title": "x" * 201}, {"title": 1}, {}):
        refused(served.client.patch(f"/api/sessions/{session}", json=body), 422, "title")


def test_only_json_is_taken(served: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = served.client.post("/api/sessions", content=b"{}", headers={"content-type": kind})
        refused(answer, 415)


def test_every_route_survives_garbage(served: Served) -> None:
    """No method, path or body leads to a 5xx."""
    for path in ("/api/sessions", "/api/sessions/1/generate", "/api/nodes/1", "/api/runs/1/cancel"):
        for method in ("POST", "PATCH", "DELETE", "PUT", "GET", "OPTIONS", "HEAD"):
            for body in (b"", b"{}", b"[]", b"\x00", b'"' + b"\\" * 1001):
                answer = served.client.request(method, path, content=body, headers=JSON)
                assert answer.status_code < 500, (method, path, body)


def test_depth_counts_brackets_outside_strings() -> None:
    assert depth(b'{"a": [1, "[[[[", "\\"[["]}') == 2
    assert depth(b"") == 0
    assert depth(b"[" * 1000) == 1000
    check(b'{"a":' * 64 + b"1" + b"}" * 64)


def test_checking_is_linear(benchmark_limit: Callable[[float], Any]) -> None:
    with benchmark_limit(1.0):
        check(b'"' + b"\\n" * 700_000 + b'"')
        depth(b'"' + b"\\" * (MOST_BYTES - 1))


@pytest.fixture
def benchmark_limit() -> Callable[[float], Any]:
    """`with benchmark_limit(s)`: the block must take less than that (generous: slow machines)."""
    import time
    from contextlib import contextmanager

    @contextmanager
    def limit(seconds: float) -> Any:
        start = time.perf_counter()
        yield
        assert time.perf_counter() - start < seconds

    return limit
