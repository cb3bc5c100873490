"""Nothing gets past the guard."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi.routing import APIRoute

from tokenscope.errors import InputError
from tokenscope.server.access import Access, check_bind, stored_token
from tokenscope.server.app import routes_of

if TYPE_CHECKING:
    from conftest import Served


def paths(served: Served) -> Iterator[tuple[str, str]]:
    """Every method and path of the live route table, parameters filled in."""

    def walk(routes: Any) -> Iterator[Any]:
        for route in routes:
            inner = getattr(route, "routes", None) or getattr(
                getattr(route, "original_router", None), "routes", None
            )
            yield from walk(inner) if inner else iter([route])

    for route in walk(routes_of(served.house).routes):
        assert isinstance(route, APIRoute), f"{route!r} is of a kind that this test does not know"
        path = route.path
        for name in ("session", "node", "run", "t", "name", "path", "other", "digest", "file"):
            path = path.replace(f"{{{name}:path}}", "x").replace(f"{{{name}}}", "1")
        assert "{" not in path
        for method in route.methods or ():
            yield method, path


@pytest.fixture
def stranger(served: Served) -> Iterator[httpx2.Client]:
    """A client that has signed in nowhere."""
    with httpx2.Client(base_url=served.address) as client:
        yield client


@pytest.fixture
def signed(served: Served, stranger: httpx2.Client) -> httpx2.Client:
    """A client that came in as a browser does."""
    answer = stranger.get(f"/?token={served.access.token}&x=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?x=1"
    return stranger


def test_every_route_wants_a_session(served: Served, stranger: httpx2.Client) -> None:
    seen = list(paths(served))
    assert len(seen) >= 21
    assert ("POST", "/api/nodes/1/fork") in seen
    for method, path in seen:
        answer = stranger.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert "set-cookie" not in answer.headers


def test_every_route_refuses_other_names_and_other_sites(served: Served) -> None:
    for method, path in paths(served):
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"host": f"127.0.0.1.evil.example:{served.port}"}, 421),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": "http://["}, 403),
            ({"origin": f"https://127.0.0.1:{served.port}"}, 403),
            ({"origin": "http://127.0.0.1:1"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "same-site"}, 403),
        ):
            answer = served.client.request(method, path, headers=headers)
            assert answer.status_code == status, (method, path, headers)


def test_unknown_addresses_tell_a_stranger_nothing(stranger: httpx2.Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/api/nothing", "/../../etc/passwd"):
        assert stranger.get(path).status_code == 401


def test_docs_and_cors_are_off(served: Served) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/api/docs"):
        assert served.client.get(path).status_code == 404
    asked = {"origin": served.address, "access-control-request-method": "POST"}
    answer = served.client.options("/api/sessions", headers=asked)
    assert not [h for h in answer.headers if h.startswith("access-control")]


def test_the_key_becomes_a_cookie(served: Served, stranger: httpx2.Client) -> None:
    answer = stranger.get(f"/?token={served.access.token}")
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    assert served.access.token not in cookie
    assert served.access.token not in answer.headers["location"]
    assert stranger.get("/api/model").status_code == 200


@pytest.mark.parametrize("key", ["", "0" * 64, "é", "a&token=b"])
def test_a_wrong_key_opens_nothing(stranger: httpx2.Client, key: str) -> None:
    answer = stranger.get("/", params={"token": key} if "&" not in key else None)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_browser_must_say_where_a_change_comes_from(
    served: Served, signed: httpx2.Client
) -> None:
    assert signed.post("/api/sessions", json={}).status_code == 403
    origin = {"origin": served.address}
    assert signed.post("/api/sessions", json={}, headers=origin).status_code == 200
    site = {"sec-fetch-site": "same-origin"}
    assert signed.post("/api/sessions", json={}, headers=site).status_code == 200


def test_a_link_elsewhere_may_open_the_page_only(served: Served) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert served.client.get("/", headers=link).status_code == 503  # let in; no page is built
    assert served.client.post("/api/sessions", json={}, headers=link).status_code == 403


def test_every_answer_carries_the_headers(served: Served, stranger: httpx2.Client) -> None:
    answers = [served.client.get("/"), served.client.get("/api/model"), stranger.get("/")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        for part in (
            "default-src 'none'", "script-src 'self';", "style-src 'self';",
            "frame-ancestors 'none'", "require-trusted-types-for 'script'",
        ):  # fmt: skip
            assert part in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_logs_never_hold_the_key(
    served: Served, stranger: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        stranger.get(f"/?token={served.access.token}")
        served.client.get("/api/model")
    ours = [r for r in caplog.records if not r.name.startswith("http")]  # not the client's own
    assert [r.name for r in ours if served.access.token in r.getMessage()] == []
    assert served.access.token not in repr(served.access)


def test_the_key_is_kept_in_a_file_of_the_owner(tmp_path: Path) -> None:
    first = stored_token(tmp_path)
    assert len(bytes.fromhex(first)) == 32
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert stored_token(tmp_path) == first
    assert stored_token(tmp_path, renew=True) != first


def test_hosts_that_are_configured_are_known() -> None:
    access = Access("k", frozenset({"scope.bank.example"}), https=True)
    assert access.knows_host("Scope.Bank.example")
    assert access.knows_host("localhost:8321")
    assert access.knows_host("[::1]:8321")
    for other in ("bank.example", "", "[::1", "scope.bank.example.evil.example"):
        assert not access.knows_host(other)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "server.example"])
def test_others_may_reach_it_only_with_tls_and_names(host: str) -> None:
    with pytest.raises(InputError, match="tls"):
        check_bind(host, tls=False, behind_proxy=False, hosts=["a.example"])
    with pytest.raises(InputError, match="name the host"):
        check_bind(host, tls=True, behind_proxy=False, hosts=[])
    check_bind(host, tls=False, behind_proxy=True, hosts=["a.example"])


def test_loopback_needs_nothing() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        check_bind(host, tls=False, behind_proxy=False, hosts=[])


def test_the_page_is_cached_by_hash_and_nothing_beside_it_is_served(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html><html><head><title>x</title></head></html>")
    (page / "assets/index-abc123.js").write_text("1")
    (page / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "secret.txt").write_text("secret")
    (page / "assets/link.txt").symlink_to(tmp_path / "secret.txt")
    client = serve(page=page).client
    index = client.get("/")
    assert index.headers["cache-control"] == "no-store"
    script = client.get("/assets/index-abc123.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert client.get("/icon.svg").headers["content-type"] == "image/svg+xml"
    for path in ("/assets/link.txt", "/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt",
                 "/assets", "/%00", "/assets/%ff", "/index.html", "/x" * 3000):  # fmt: skip
        assert client.get(path).status_code == 404, path[:80]
