"""A real server, a real browser. `signed_in` is a page that has opened the printed address.

A journey is a function that takes `page` (signed in, at the start) and, if it needs it, `server`.
At its end a journey fails if the page threw an error or broke its own content security policy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "src/tokenscope/server/page/index.html"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--no-first-run", "--no-default-browser-check",
    "--metrics-recording-only", "--disable-features=Translate,OptimizationHints,MediaRouter",
]  # fmt: skip
START = 180.0
# The browser that many times slower: what passes only on a fast page is seen here first.
SLOWED = float(os.environ.get("TOKENSCOPE_SLOWED", "1"))
BREACHES = ("Content Security Policy", "TrustedHTML", "TrustedScript", "Trusted Type")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a browser; `-m "not journey"` leaves it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.journey)
            # a server per worker is enough: journeys of one file stay together
            item.add_marker(pytest.mark.xdist_group("journeys"))


@dataclass
class Server:
    """A running `tokenscope serve`. `url` carries the key; `address` does not. `recorder`: the key
    of `/v1`, where that is on."""

    process: subprocess.Popen[str]
    url: str
    address: str
    data: Path
    recorder: str = ""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and wait. Returns its exit code."""
        self.process.send_signal(how)
        return self.process.wait(30)


def start_server(data: Path, *options: str) -> Server:
    """Start a server on a free port; it has loaded its model when this returns."""
    command = [
        sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0", "--data", str(data),
        *options,
    ]  # fmt: skip
    log = open(data.parent / f"{data.name}.log", "a")  # noqa: SIM115
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            said = json.loads("".join(lines))
            recorder = (said.get("recorder") or {}).get("key", "")
            return Server(process, said["url"], said["address"], data, recorder)
    log.close()
    raise AssertionError(f"the server did not start:\n{Path(log.name).read_text()[-3000:]}")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers of your own: `serve()`; `serve(data=folder)` opens a folder again."""
    if not BUILT.is_file():
        pytest.fail("the page is not built: run `make page`", pytrace=False)
    running: list[Server] = []

    def start(*options: str, data: Path | None = None) -> Server:
        folder = data if data is not None else tmp_path_factory.mktemp("journey") / "data"
        running.append(start_server(folder, *options))
        return running[-1]

    yield start
    for server in running:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server]) -> Server:
    """The server that most journeys share."""
    return serve()


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright itself."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """The system's Chromium, else the one that Playwright installed."""
    found = next((p for p in map(shutil.which, CHROMIUM) if p), None)
    if found is None and not Path(playwright.chromium.executable_path).exists():
        pytest.fail(
            "no browser: install Chromium (`apt install chromium`), or run "
            "`python -m playwright install chromium`",
            pytrace=False,
        )
    # a browser's own sandbox cannot run as root
    options = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    launched = playwright.chromium.launch(executable_path=found, args=options)
    yield launched
    launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a browser context of its own: `open_page(server.url)`."""
    contexts = []
    troubles: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on(
            "console",
            lambda m: troubles.append(m.text) if any(b in m.text for b in BREACHES) else None,
        )

    def open_it(url: str, **options: Any) -> Page:
        settings = {"viewport": {"width": 1400, "height": 900}, "accept_downloads": True, **options}
        context = browser.new_context(**settings)
        contexts.append(context)
        context.on("page", watch)
        page = context.new_page()
        if SLOWED > 1:
            tools = context.new_cdp_session(page)
            tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not troubles, "the page failed or broke its policy:\n" + "\n".join(troubles[:5])


@pytest.fixture
def page(open_page: Callable[..., Page], server: Server) -> Iterator[Page]:
    """The start page of the shared server, signed in; what it left running is ended."""
    page = open_page(server.url)
    yield page
    end_runs(page.context, server)


def end_runs(context: BrowserContext, server: Server) -> None:
    """Cancel whatever runs and wait for its end: the next journey begins on a quiet server."""

    def running() -> list[str]:
        jobs = context.request.get(f"{server.address}/api/runs").json()
        return [job["run"] for job in jobs if job["running"]]

    until = time.monotonic() + 60
    for run in running():
        context.request.post(
            f"{server.address}/api/runs/{run}/cancel", headers={"origin": server.address}
        )
    while running():
        assert time.monotonic() < until, "a run that was cancelled goes on"
        time.sleep(0.05)


@pytest.fixture
def axe() -> Callable[..., list[str]]:
    """`axe(page)`: the violations of WCAG 2 A and AA, one line each; [] when clean."""
    if not AXE.is_file():
        pytest.fail("axe-core is missing: run `npm ci` in web/", pytrace=False)
    source = AXE.read_text("utf-8")

    def violations(page: Page, within: str | None = None) -> list[str]:
        page.evaluate(source)  # not as a script tag: the page's policy would refuse it
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        found = page.evaluate(
            "([within, tags]) => axe.run(within ?? document, {runOnly: tags})", [within, tags]
        )
        return [
            f"{v['id']}: {v['help']} at {v['nodes'][0]['target']} ({len(v['nodes'])} places)"
            for v in found["violations"]
        ]

    return violations
