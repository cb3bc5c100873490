"""The structure view: colours by region, breadcrumb, icicle, table, who looked at whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.waiting import until

PROMPT = (
    "def parse(line, sep=','):\n    fields = []\n    for part in line.split(sep):\n"
    "        fields.append(part)\n    return fields\n\n\ndef total(items):\n    result ="
)
Axe = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def structure(page: Page) -> Page:
    """A branch of 48 tokens, shown by its structure."""
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill("48")
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(PROMPT)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("listbox", name="The code, token by token")).to_be_visible()
    # while tokens still come: the structure follows
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Structure", exact=True).or_(
        page.get_by_role("tab", name="Structure", exact=True)
    ).or_(page.get_by_role("link", name="Structure", exact=True)).first.click()
    expect(page.locator("[data-region]").first).to_be_visible()
    # the page knows that it has ended, and has its regions whole
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="New prompt").first).to_be_visible()
    regions = page.locator("[data-region]")
    counts = [-1]

    def settled() -> bool:
        counts.append(regions.count())
        return counts[-1] > 0 and counts[-3:] == 3 * counts[-1:]

    until(settled)
    return page


def test_pointing_at_code_shows_the_path_from_the_file_to_the_token(structure: Page) -> None:
    structure.locator("#token-12").first.hover()
    crumbs = structure.get_by_role("navigation", name="Path from the file")
    expect(crumbs).to_contain_text("module")
    expect(crumbs).to_contain_text("parse")
    expect(structure.locator(".tk[data-nest='4']").first).to_be_visible()  # the regions around
    expect(structure.locator("[data-region].around").nth(1)).to_be_visible()  # and in the icicle


def test_pointing_at_the_icicle_marks_the_code_and_a_click_zooms(structure: Page) -> None:
    box = structure.get_by_role("option", name="function definition parse").first
    box.hover()
    expect(structure.locator(".tk[data-nest]").first).to_be_visible()
    before = structure.locator("[data-region]").count()
    box.click()
    expect(structure.get_by_role("button", name="Whole file")).to_be_visible()
    until(lambda: structure.locator("[data-region]").count() < before + 40)
    expect(structure.locator(".tk.within, .tk.chosen").nth(3)).to_be_visible()  # they are selected
    structure.keyboard.press("0")
    expect(structure.get_by_role("button", name="Whole file")).to_be_hidden()


def test_the_icicle_is_walked_with_the_keyboard(structure: Page) -> None:
    boxes = structure.get_by_role("listbox", name="Regions")
    boxes.focus()
    first = boxes.get_attribute("aria-activedescendant")
    structure.keyboard.press("ArrowDown")
    expect(boxes).not_to_have_attribute("aria-activedescendant", str(first))
    structure.keyboard.press("Enter")
    expect(structure.get_by_role("button", name="Whole file")).to_be_visible()


def test_levels_and_aggregates_change_colours_and_the_table_sorts(structure: Page) -> None:
    level = structure.get_by_role("combobox", name="Level")
    level.select_option("category")
    table = structure.get_by_role("table")
    expect(table).to_contain_text("identifier")
    header = structure.get_by_role("columnheader", name="tokens")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    counts = [int(t) for t in table.locator("tbody td:nth-of-type(2)").all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    fills = "els => els.map(e => e.dataset.fill).join()"
    before = structure.locator(".tk:not(.prompt)").evaluate_all(fills)
    level.select_option("line")
    structure.get_by_role("button", name="max", exact=True).click()
    until(lambda: structure.locator(".tk:not(.prompt)").evaluate_all(fills) != before)


def test_attention_between_nodes_names_rows_and_columns(structure: Page) -> None:
    structure.get_by_role("button", name="Who looked at whom").click()
    grid = structure.get_by_role("application")
    expect(grid).to_be_visible()
    grid.focus()
    structure.keyboard.press("ArrowDown")
    expect(structure.locator("p.says")).to_contain_text("→")
    structure.get_by_role("button", name="per token").click()
    expect(structure.get_by_text("divided by the tokens of the column")).to_be_visible()


def test_alternatives_wear_a_badge(structure: Page) -> None:
    structure.keyboard.press("s")
    structure.locator(".tk[role=option]:not(.prompt)").first.click()
    badges = structure.locator(".badge.viable, .badge.not, .badge.unknown")
    expect(badges.first).to_be_visible()
    expect(structure.locator(".badge.viable").first).to_be_visible()


@pytest.mark.parametrize("side", ["By kind", "Who looked at whom"])
def test_the_view_is_accessible(structure: Page, axe: Axe, side: str) -> None:
    structure.get_by_role("button", name=side).click()
    whole = {
        "By kind": structure.locator("tbody tr"),
        "Who looked at whom": structure.locator("canvas"),
    }
    expect(whole[side].first).to_be_visible()
    assert axe(structure, ".structure") == []
