"""The models at hand: what they are and take; load, switch, unload; a real one from scratch."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Server
from tests.journeys.waiting import ENDED, branched, node
from tests.real_model import cache_folder, smollm2
from tokenscope.backends.hf.load import BUNDLED

SLOW = 120_000


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine loads slowly at times."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


def row(page: Page, name: str) -> Locator:
    """The row of the table whose model has this name."""
    return page.get_by_role("row").filter(
        has=page.get_by_role("button", name=re.compile(f"^{re.escape(name)}, "))
    )


def models(page: Page) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("button", name="Models").click()


def generate(page: Page, prompt: str, tokens: int) -> str:
    """A fresh prompt, decoded to its end. Returns its branch."""
    page.get_by_role("button", name="New prompt").first.click()
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill(str(tokens))
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(prompt)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("listbox", name="The code, token by token")).to_be_visible()
    expect(page.locator(ENDED)).to_be_visible()
    return node(page)


def test_load_switch_unload_and_read_without_a_model(
    open_page: Callable[..., Page], serve: Callable[..., Server], tmp_path: Path,
    axe: Callable[..., list[str]],
) -> None:  # fmt: skip
    other = shutil.copytree(BUNDLED, tmp_path / "other")
    page = open_page(serve("bundled", str(other)).url)
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    models(page)
    expect(page.get_by_role("button", name="bundled, in use")).to_be_visible()
    expect(row(page, "bundled")).to_contain_text(re.compile("5.54M.*f16.*fits as float32", re.S))
    page.get_by_role("button", name=re.compile("^other, ready")).click()
    detail = page.get_by_role("complementary", name="About other")
    plan = detail.get_by_role("region", name="What it would take here")
    expect(plan.locator("li", has_text="bfloat16")).to_contain_text("fits")
    # twice the context takes more; the figures are the planner's own
    total = plan.locator("li").first.locator(".total")
    before = total.inner_text()
    plan.get_by_label("Tokens of context").fill("1024")
    page.keyboard.press("Enter")
    expect(total).not_to_have_text(before)
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []
    # in a form of its own, beside the one that is loaded
    plan.locator("li", has_text="bfloat16").get_by_role("button", name="Load so").click()
    bar = page.get_by_role("banner").get_by_title("What is loaded")
    expect(bar).to_contain_text("bfloat16", timeout=SLOW)
    expect(row(page, "bundled")).to_contain_text("Use")
    made = generate(page, "def total(items):\n    ", 8)
    page.keyboard.press("m")
    # given back, one after the other: what was recorded is read without any
    row(page, "other").get_by_role("button", name="Unload").click()
    expect(bar).to_contain_text("float32")
    row(page, "bundled").get_by_role("button", name="Unload").click()
    expect(page.get_by_role("button", name="no model is loaded")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="bundled, ready")).to_be_visible()
    page.get_by_role("navigation", name="Sessions").locator("button.entry").first.click()
    expect(page.locator(".surface")).to_contain_text("total")
    expect(page).to_have_url(re.compile(f"node={made}"))
    expect(page.locator(".tk[role=option]:not(.prompt)").first).not_to_have_attribute(
        "data-fill", ""
    )
    expect(page.locator("header dl")).to_contain_text("perplexity")
    page.locator(".tk[role=option]:not(.prompt)").nth(2).click()
    expect(page.get_by_role("complementary", name="Token")).to_contain_text("Surprisal")
    page.keyboard.press("m")
    row(page, "bundled").get_by_role("button", name="Load").click()
    expect(bar).to_contain_text("bundled", timeout=SLOW)


def test_the_recorder_is_watched_paused_and_goes_on(
    open_page: Callable[..., Page], serve: Callable[..., Server]
) -> None:
    server = serve("--recorder")
    page = open_page(server.url)
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    models(page)
    part = page.get_by_role("region", name="Recorder")
    expect(part).to_contain_text("No request yet")

    def complete() -> None:
        body = json.dumps({"model": "bundled", "prompt": "x = ", "max_tokens": 4}).encode()
        asked = urllib.request.Request(
            f"{server.address}/v1/completions", body,
            {"authorization": f"Bearer {server.recorder}", "content-type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)["choices"]

    complete()
    first = part.get_by_role("row").nth(1)
    expect(first).to_contain_text("completion")
    expect(part).to_contain_text("1 recorded")
    part.get_by_role("switch", name="Record").click()
    expect(part.get_by_role("switch", name="Record")).to_have_attribute("aria-checked", "false")
    complete()
    expect(part).to_contain_text("2 requests · 1 recorded")
    expect(first).to_contain_text("not recorded")
    part.get_by_role("switch", name="Record").click()
    expect(part.get_by_role("switch", name="Record")).to_have_attribute("aria-checked", "true")
    part.get_by_role("link", name="Show").click()
    expect(page.locator(".surface")).to_contain_text("x")


def test_a_clean_machine_gets_a_real_model_and_asks_why(
    open_page: Callable[..., Page], serve: Callable[..., Server], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Get, load, generate, chat, branch, explain. The folder that conversion would write is there
    already (half a minute); TOKENSCOPE_CLEAN=1 leaves that out and converts."""
    found, reason = smollm2()
    if found is None:
        pytest.skip(reason)
    times: dict[str, float] = {}
    monkeypatch.setenv("TOKENSCOPE_MODELS", str(tmp_path))
    if not os.environ.get("TOKENSCOPE_CLEAN"):
        (tmp_path / "smollm2").mkdir()
        made = cache_folder() / "smollm2" / "smollm2-135m-instruct"
        shutil.copytree(made, tmp_path / "smollm2" / made.name, copy_function=os.link)
    page = open_page(serve().url)

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        found = work()
        times[what] = round(time.monotonic() - began, 1)
        return found

    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    models(page)
    real = row(page, "smollm2-135m-instruct")

    def get() -> None:
        row(page, "SmolLM2-135M-Instruct").get_by_role("button", name="Get").click()
        expect(real.get_by_role("button", name="Load")).to_be_visible(timeout=3 * SLOW)

    def load() -> None:
        real.get_by_role("button", name="Load").click()
        bar = page.get_by_role("banner").get_by_title("What is loaded")
        expect(bar).to_contain_text("smollm2", timeout=SLOW)

    def chat() -> None:
        page.get_by_role("button", name="New prompt").first.click()
        page.get_by_role("button", name="Chat", exact=True).click()
        page.get_by_role("textbox", name="Message 1").fill("Say hello.")
        before = page.url
        page.get_by_role("button", name="Generate").click()
        expect(page).not_to_have_url(before)
        expect(page.locator(ENDED)).to_be_visible(timeout=SLOW)
        expect(page.locator(".tk.special").first).to_be_visible()

    def branch() -> str:
        before = node(page)
        page.locator(".tk[role=option]:not(.prompt)").nth(1).click()
        page.locator("button[data-alternative]:not(:disabled)").first.click()
        return branched(page, before)

    def why() -> None:
        page.keyboard.press("y")
        panel = page.get_by_role("complementary", name="Why")
        expect(panel.locator(".sentence")).to_contain_text(" over ", timeout=2 * SLOW)

    timed("get", get)
    timed("load", load)
    timed("generate", lambda: generate(page, "def fib(n):\n    ", 12))
    timed("chat", chat)
    timed("branch", branch)
    timed("explain", why)
    with capsys.disabled():
        print(f"\nclean machine, seconds: {times}")
