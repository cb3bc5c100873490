"""Take the README's pictures of the page anew: `python docs/pictures/take.py`.

Starts a server with the bundled model and sessions of its own, goes through the main job in a
browser (prompt, two branches, a selected token), and writes page-light.png and page-dark.png here.
"""

from __future__ import annotations

from playwright.sync_api import Page
from served import ENDED, HERE, served

PROMPT = '''import os


def read_lines(path, encoding="utf-8"):
    """Return the lines of a file without their line ends."""
    lines = []
    with open(path, encoding=encoding) as file:
        for line in file:
'''


def branch(page: Page, nth: int, alternative: int) -> None:
    """Select a generated token and take one of its alternatives."""
    page.locator(".tk[role=option]:not(.prompt)").nth(nth).click()
    page.locator("button[data-alternative]:not(:disabled)").nth(alternative).click()
    page.wait_for_selector(".what .from")
    page.wait_for_selector(ENDED, timeout=120_000)


def job(page: Page) -> None:
    """From the prompt to the state that the pictures show."""
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.insert_text(PROMPT)
    page.get_by_role("textbox", name="Length").fill("72")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_selector(ENDED, timeout=120_000)
    branch(page, 2, 0)
    page.keyboard.press("{")
    page.wait_for_selector(".what:not(:has(.from))")
    branch(page, 10, 1)
    page.keyboard.press("{")
    page.wait_for_selector(".what:not(:has(.from))")
    page.locator(".tk[role=option]:not(.prompt)").nth(4).click()
    page.mouse.move(700, 700)
    page.wait_for_timeout(1500)


def main() -> None:
    """Both pictures."""
    with served() as page:
        job(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_timeout(600)
            page.screenshot(path=HERE / f"page-{scheme}.png")


if __name__ == "__main__":
    main()
