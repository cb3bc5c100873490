"""Take the pictures of Attention, What if, Compare and Models anew.

`python docs/pictures/take_views.py [NAME ...]` starts a server with the bundled model and sessions
of its own; writes attention-light.png, whatif-light.png, compare-light.png and models-light.png
here. A picture needs those before it: the names say which to keep.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

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


def compare(page: Page) -> None:
    """The same text under the same model in int8."""
    at = urlsplit(page.url)
    house = f"{at.scheme}://{at.netloc}"
    form = {"address": "bundled", "dtype": "int8", "max_memory": None}
    page.request.post(f"{house}/api/models", data=form, headers={"origin": house})
    page.reload()
    page.wait_for_selector(".surface .tk")
    page.keyboard.press("z")
    page.locator("aside .choices button").first.click()
    page.wait_for_selector(".flips button", timeout=120_000)
    page.get_by_role("switch", name="Exact").click()
    page.wait_for_selector("text=whole distributions", timeout=120_000)
    page.locator(".flips button").first.click()


def models(page: Page) -> None:
    """What is at hand."""
    page.get_by_role("navigation", name="Views").get_by_role("button", name="Models").click()
    page.wait_for_selector("ol li .bar", timeout=120_000)


def main() -> None:
    """The pictures, or those that are named."""
    jobs = {"attention": attention, "whatif": whatif, "compare": compare, "models": models}
    with served("--recorder") as page:
        for name, job in jobs.items():
            job(page)
            page.wait_for_timeout(600)
            if not sys.argv[1:] or name in sys.argv[1:]:
                page.screenshot(path=HERE / f"{name}-light.png")


if __name__ == "__main__":
    main()
