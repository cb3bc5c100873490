"""How the page stands up to a narrow window (200 % zoom) and to colours that the system sets."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.journeys.waiting import ENDED

VIEWS = (
    "Structure",
    "Attention",
    "Why",
    "What if",
    "Compare",
    "Ledger",
    "Audit",
    "Models",
    "Scope",
)
BEYOND = """() => {
  const width = document.documentElement.clientWidth
  const held = (e) => {
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (getComputedStyle(p).overflowX !== 'visible') return true
    return false
  }
  return [...document.querySelectorAll('body *')]
    .filter((e) => e.getBoundingClientRect().width > 0)
    .filter((e) => e.getBoundingClientRect().right > width + 1)
    .filter((e) => !e.closest('.unseen, .probe') && !held(e))
    .map((e) => `${e.tagName}.${e.className}`)
}"""


def test_at_half_the_width_nothing_is_cut_and_forced_colours_keep_the_data(page: Page) -> None:
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill("6")
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text("def total(items):\n    return")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(ENDED)).to_be_visible()
    page.set_viewport_size({"width": 720, "height": 450})
    views = page.get_by_role("navigation", name="Views")
    for name in VIEWS:
        tab = views.get_by_role("button", name=name, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-current", "page")
        assert page.evaluate(BEYOND) == [], name
    page.set_viewport_size({"width": 1440, "height": 900})

    page.emulate_media(forced_colors="active")
    colours = "all => new Set(all.map(e => getComputedStyle(e).backgroundColor)).size"
    assert page.locator("footer .band span").evaluate_all(colours) > 20, "the scale is seen"
    # a switch tells whether it is on by more than its place
    switch = page.get_by_role("switch", name="Prompt", exact=True)
    track = switch.locator(".track")
    off = track.evaluate("e => getComputedStyle(e).backgroundColor")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(track).not_to_have_css("background-color", off)
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
