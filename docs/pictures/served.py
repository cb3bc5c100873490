"""A server with the bundled model and sessions of its own, and a page of it in a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
ENDED = "dl dt:has-text('ended')"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def served(*options: str) -> Iterator[Page]:
    """The start page at 1440 x 900, signed in. ``options``: more of `tokenscope serve`."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0"]
        server = subprocess.Popen(
            [*command, "--data", data, *options], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        lines: list[str] = []
        for line in server.stdout:
            lines.append(line)
            if line.rstrip() == "}":
                break
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=next((p for p in map(shutil.which, CHROMIUM) if p), None),
                    args=["--no-sandbox"] if os.geteuid() == 0 else [],
                )
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.emulate_media(color_scheme="light")
                page.goto(json.loads("".join(lines))["url"])
                yield page
                browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
