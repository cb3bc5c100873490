"""The tour: five steps on a recorded example, by keyboard or mouse, and no token is decoded."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.journeys.conftest import Server

STEPS = (
    "Every token has its numbers",
    "What else it could have written",
    "A branch goes another way",
    "The same numbers over the syntax",
    "What if?",
)


def test_the_tour_leads_through_a_recorded_example(
    page: Page, server: Server, axe: Callable[..., list[str]]
) -> None:
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    before = page.request.get(f"{server.address}/api/runs").json()
    page.get_by_role("button", name="A tour in five steps").click()
    tour = page.get_by_role("region", name="Tour")
    said = tour.get_by_role("heading")
    expect(said).to_have_text(STEPS[0])
    expect(page.locator(".surface")).to_contain_text("shell=True")
    assert axe(page, "[aria-label=Tour]") == []
    for title in STEPS[1:]:
        tour.get_by_role("button", name="Next").click()
        expect(said).to_have_text(title)
        if title == STEPS[1]:  # the token that was decided there is in the inspector
            expect(page.locator("button[data-alternative]").first).to_be_visible()
        if title == STEPS[2]:
            expect(page.locator(".surface")).to_contain_text("shell=False")
    expect(page).to_have_url(re.compile("view=whatif"))
    tour.get_by_role("button", name="Back").click()
    expect(said).to_have_text(STEPS[3])
    expect(page).to_have_url(re.compile("view=structure"))
    tour.get_by_role("button", name="End the tour").click()
    expect(tour).not_to_be_visible()
    assert page.request.get(f"{server.address}/api/runs").json() == before

    # a second time opens the session that is there
    page.keyboard.press("n")
    page.get_by_role("button", name="A tour in five steps").click()
    expect(said).to_have_text(STEPS[0])
    titles = [s["title"] for s in page.request.get(f"{server.address}/api/sessions").json()]
    assert titles.count("A tour") == 1
