"""What if: edits are picked, tried, compared, kept by name and put in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Server

MAKE = """async () => {
  const send = async (path, body) => (await fetch('api/' + path, {method: 'POST',
    body: JSON.stringify(body), headers: {'content-type': 'application/json'}})).json()
  const session = await send('sessions', {title: 'what if'})
  const prompt = 'def total(items):\\n    result = 0\\n    for item in items:\\n        '
  const {run, node} = await send(`sessions/${session.id}/generate`,
    {prompt, language: 'python', settings: {max_new_tokens: 16}})
  await (await fetch('api/events?run=' + run)).text()  // its end is the end of the run
  return {session: session.id, node}
}"""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def made(page: Page, server: Server) -> dict[str, Any]:
    """A branch of 16 generated tokens, shown in the view."""
    expect(page.get_by_role("banner")).to_be_visible()
    page.get_by_role("textbox", name="Length").fill("12")
    found: dict[str, Any] = page.evaluate(MAKE)
    page.goto("about:blank")
    page.goto(f"{server.address}/#session={found['session']}&node={found['node']}&view=whatif")
    expect(page.get_by_role("heading", name="What would it write if")).to_be_visible()
    return found


def panel(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Edits")


def side(page: Page, n: int) -> Locator:
    return page.get_by_role("region", name="Before and after").locator("pre").nth(n)


def rows(page: Page) -> Locator:
    return page.get_by_role("treeitem")


def ban(page: Page, strings: str) -> None:
    panel(page).get_by_label("Add an edit").select_option("ban_text")
    panel(page).get_by_label("Strings, one a line").fill(strings)


def test_a_banned_word_is_not_written(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    expect(page.locator(".surface")).to_contain_text("result = [")  # what it writes by itself
    expect(panel(page).get_by_role("button", name="Decode with these edits")).to_be_disabled()
    ban(page, "[]\nitem")
    panel(page).get_by_role("button", name="Decode with these edits").click()
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    expect(side(page, 0)).to_contain_text("result = []")
    own = page.evaluate(
        "async () => { const id = new URLSearchParams(location.hash.slice(1)).get('node');"
        "return (await fetch('api/nodes/' + id)).json() }"
    )
    assert own["node"]["parent"] == made["node"]
    assert "price" in own["columns"]
    after = side(page, 1).inner_text().split("for item in items:")[1]
    assert "item" not in after and "[]" not in after
    expect(page.get_by_role("region", name="Before and after")).to_contain_text("price")
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []


def test_a_slider_decodes_again_and_the_trial_makes_room(page: Page, made: dict[str, Any]) -> None:
    panel(page).get_by_label("Add an edit").select_option("bias_text")
    panel(page).get_by_label("Strings, one a line").fill("return")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    expect(side(page, 1)).not_to_contain_text("return")
    first = page.url
    slider = panel(page).get_by_role("slider", name="Nats")
    slider.focus()
    page.keyboard.press("End")
    expect(side(page, 1)).to_contain_text("return")
    assert page.url != first
    expect(rows(page)).to_have_count(2)
    # one that is bookmarked stays
    page.keyboard.press("Escape")
    page.locator(".main h1").click()
    page.keyboard.press("b")
    expect(page.locator("[aria-selected=true] .star")).to_be_visible()
    slider.focus()
    page.keyboard.press("Home")
    expect(rows(page)).to_have_count(3)


def test_a_set_is_kept_by_name_and_put_in_force(page: Page, made: dict[str, Any]) -> None:
    ban(page, "result")
    panel(page).get_by_label("Name of the set").fill("no result")
    panel(page).get_by_role("button", name="Keep").click()
    panel(page).get_by_role("button", name="Take Ban text away").click()
    page.reload()
    panel(page).get_by_role("button", name="no result").first.click()
    expect(panel(page).get_by_label("Strings, one a line")).to_have_value("result")
    panel(page).get_by_role("switch", name="Every new prompt").click()
    page.keyboard.press("n")
    expect(page.get_by_role("region", name="Prompt")).to_contain_text("1 edit")
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text("def total(items):\n    result = 0\n    for item in items:\n        ")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    text = page.locator(".surface .tk:not(.prompt)").all_inner_texts()
    assert text and "result" not in "".join(text)
