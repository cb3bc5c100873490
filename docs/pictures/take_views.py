"""Take the pictures of Attention, What if and Models anew: `python docs/pictures/take_views.py`.

Starts a server with the bundled model and sessions of its own; writes attention-light.png,
whatif-light.png and models-light.png here.
"""

from __future__ import annotations

from playwright.sync_api import Page
from served import ENDED, HERE, served

PROMPT = """import os
import subprocess


def clean(path):
    os.system("rm -rf " + path)


def run(command, timeout=30):
    return subprocess.run(command, timeout=timeout, shell="""


def attention(page: Page) -> None:
    """Every head of the first generated token."""
    page.get_by_role("textbox", name="Length").fill("40")
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(PROMPT)
    page.get_by_role("button", name="Generate").click()
    page.wait_for_selector(ENDED, timeout=120_000)
    page.locator(".tk[role=option]:not(.prompt)").first.click()
    page.keyboard.press("h")
    page.get_by_role("button", name="Heads × tokens").click()
    page.wait_for_selector("ol.layers canvas", timeout=120_000)
    page.wait_for_timeout(1000)
    page.get_by_role("application").hover(position={"x": 400, "y": 220})


def whatif(page: Page) -> None:
    """An exploration of three alternatives at two choices."""
    page.keyboard.press("v")
    for name, value in (("width", 3), ("depth", 2), ("horizon", 12)):
        page.get_by_label(name, exact=True).fill(str(value))
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Explore", exact=True).click()
    page.wait_for_selector(".surface .tk.changes", timeout=120_000)


def models(page: Page) -> None:
    """What is at hand."""
    page.get_by_role("navigation", name="Views").get_by_role("button", name="Models").click()
    page.wait_for_selector("ol li .bar", timeout=120_000)


def main() -> None:
    """The three pictures."""
    with served("--recorder") as page:
        for name, job in (("attention", attention), ("whatif", whatif), ("models", models)):
            job(page)
            page.wait_for_timeout(600)
            page.screenshot(path=HERE / f"{name}-light.png")


if __name__ == "__main__":
    main()
