"""Wait for what a journey acts on: never for something that was true before."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

ENDED = "dl dt:has-text('ended')"


def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    """Ask again until it holds, or fail with what was found last."""
    end = time.monotonic() + seconds
    found = true()
    while not found:
        assert time.monotonic() < end, f"it did not come to hold: {found!r}"
        time.sleep(0.05)
        found = true()


def node(page: Page) -> str:
    """The branch that is shown, by the address."""
    expect(page).to_have_url(re.compile("node="))
    found = re.search(r"node=(\w+)", page.url)
    assert found is not None
    return found.group(1)


def branched(page: Page, before: str) -> str:
    """Wait until another branch than `before` is shown and has ended. Returns it.

    `ended` alone says nothing: it stood there already, beside the branch that was shown before.
    """
    expect(page).not_to_have_url(re.compile(f"node={before}"))
    expect(page.locator(ENDED)).to_be_visible()
    return node(page)
