"""A run belongs to the server: reload, a second tab, another session; it goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.waiting import until

PROMPT = "def total(items):\n    result = 0\n    for item in items:\n        "
ENDED = "dl dt:has-text('ended')"
LONG = 1500
# drawn so hot, nothing repeats: the run lasts for seconds, and this seed does not end it
HEAT, SEED = "1.5", "4"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


def start(page: Page, tokens: int = LONG) -> str:
    """Begin a run from the prompt; returns the branch that it writes."""
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill(str(tokens))
    page.get_by_role("textbox", name="Temperature").fill(HEAT)
    page.get_by_role("textbox", name="Seed").fill(SEED)
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(PROMPT)
    page.get_by_role("button", name="Generate").click()
    expect(stop(page)).to_be_visible()
    expect(page).to_have_url(re.compile("node="))
    return node(page)


def node(page: Page) -> str:
    found = re.search(r"node=(\w+)", page.url)
    assert found is not None
    return found.group(1)


def stop(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop", exact=True)


def length(page: Page) -> int:
    """Tokens of the branch, as the page counts them."""
    return int(page.evaluate("document.querySelectorAll('.surface .tk[role=option]').length"))


def stored(page: Page, which: str) -> dict[str, object]:
    """The branch as the server has it."""
    answer: dict[str, object] = page.evaluate(
        "id => fetch(`api/nodes/${id}`).then(r => r.json())", which
    )
    return answer


def test_a_reload_in_the_middle_changes_nothing(page: Page) -> None:
    branch = start(page)
    page.reload()
    expect(stop(page)).to_be_visible()
    assert node(page) == branch
    before = length(page)
    page.wait_for_function(
        "n => document.querySelectorAll('.surface .tk[role=option]').length > n", arg=before
    )
    stop(page).click()
    expect(page.locator(ENDED)).to_be_visible()
    whole = stored(page, branch)
    surface = page.locator(".surface")
    surface.evaluate("it => { it.scrollTop = 0 }")  # only lines in sight are in the document
    expect(surface).to_contain_text(re.compile(r"def.total"))
    assert whole["node"]["status"] == "done"  # type: ignore[index]
    assert whole["node"]["finish"] == "cancelled"  # type: ignore[index]


def test_a_second_tab_watches_the_same_run(page: Page) -> None:
    branch = start(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(stop(other)).to_be_visible()
    assert node(other) == branch
    stop(other).click()
    for one in (page, other):
        expect(one.locator(ENDED)).to_be_visible()
    for one in (page, other):  # what was found is told last, and not to both at once
        expect(one.locator("header dl")).not_to_contain_text("–")
    told = other.locator("header dl").inner_text
    until(lambda: page.locator("header dl").inner_text() == told())
    page.bring_to_front()
    # and what the second begins, the first lists
    other.keyboard.press("c")
    rows = page.get_by_role("treeitem")
    before = rows.count()
    other.locator(".surface .tk[role=option]").nth(3).click()
    other.locator("button[data-alternative]:not(:disabled)").first.click()
    expect(rows).to_have_count(before + 1)
    expect(other).not_to_have_url(re.compile(f"node={branch}"))  # that one had ended already
    stop(other).click()
    expect(other.locator(ENDED)).to_be_visible()


def test_a_run_goes_on_in_the_background(page: Page) -> None:
    branch = start(page)
    page.keyboard.press("n")
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    page.get_by_role("button", name="Generate").click()
    chip = page.get_by_role("button", name="run in the background")
    expect(chip).to_be_visible()
    chip.click()
    expect(page).to_have_url(re.compile(f"node={branch}"))
    expect(stop(page)).to_be_visible()
    before = length(page)
    page.wait_for_function(
        "n => document.querySelectorAll('.surface .tk[role=option]').length > n", arg=before
    )
    assert stored(page, branch)["node"]["status"] == "running"  # type: ignore[index]
    stop(page).click()
    expect(page.locator(ENDED)).to_be_visible()


def test_closing_the_tab_does_not_end_the_run(
    page: Page, open_page: Callable[..., Page], server: object
) -> None:
    branch = start(page, 300)
    context = page.context
    page.close()
    again = context.new_page()
    again.goto(f"{server.address}/#node={branch}")  # type: ignore[attr-defined]
    again.wait_for_function(
        "id => fetch(`api/nodes/${id}`).then(r => r.json()).then(x => x.node.status == 'done')",
        arg=branch, polling=500,
    )  # fmt: skip
    assert stored(again, branch)["node"]["finish"] != "cancelled"  # type: ignore[index]
