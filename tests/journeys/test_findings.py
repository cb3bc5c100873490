"""Findings: marked in the code, listed, walked by keyboard, their risk measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Server

# the message of a hard-coded password quotes it
CODE = (
    "import os\nimport hashlib\n\n\ndef gone(path):\n"
    '    password = "<img src=x onerror=window.fired=1>"\n'
    "    name = hashlib.md5(path).hexdigest()\n    os.system(path)\n"
)
SCORE = """async (text) => {
  const send = async (path, body) => (await fetch('api/' + path, {method: 'POST',
    body: JSON.stringify(body), headers: {'content-type': 'application/json'}})).json()
  const session = await send('sessions', {title: 'findings'})
  const {run, node} = await send(`sessions/${session.id}/score`, {text, language: 'python'})
  await (await fetch('api/events?run=' + run)).text()  // its end is the end of the run
  const found = await (await fetch(`api/nodes/${node}/findings`)).json()
  return {session: session.id, node, findings: found.findings}
}"""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def inspector(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Token")


def chosen(page: Page) -> Locator:
    return page.locator(".surface .tk.chosen").first


def test_marks_list_and_keys(page: Page, server: Server, axe: Callable[..., list[str]]) -> None:
    expect(page.get_by_role("banner")).to_be_visible()
    made: dict[str, Any] = page.evaluate(SCORE, CODE)
    found = made["findings"]
    assert {"bandit/B105", "bandit/B324", "bandit/B605"} <= {f["rule"] for f in found}
    page.goto("about:blank")
    page.goto(f"{server.address}/#session={made['session']}&node={made['node']}")
    page.get_by_label("Colour by").select_option("finding")
    expect(page.locator(".surface .tk.found").first).to_be_visible()
    # exactly the tokens of the findings are marked, each with its worst severity
    marked = page.locator(".surface .tk.found[role=option]").evaluate_all(
        "all => all.map((x) => Number(x.dataset.t))"
    )
    assert set(marked) == {t for f in found for t in range(*f["tokens"])}
    shell = next(f for f in found if f["rule"] == "bandit/B605")
    token = page.locator(f".surface [data-t='{shell['tokens'][0]}']")
    expect(token).to_have_class(re.compile(r"\bhigh\b"))
    expect(token).to_have_attribute("aria-label", re.compile("analyser-detected: .*B605"))
    fills = [
        page.locator(f".surface [data-t='{t}']").evaluate(
            "x => getComputedStyle(x).backgroundColor"
        )
        for t in (shell["tokens"][0], 1)
    ]
    assert fills[0] != fills[1]
    # all are listed; what a rule says is text
    listed = inspector(page).locator(".findings > li")
    expect(listed).to_have_count(len(found))
    expect(inspector(page)).to_contain_text("<img src=x onerror=window.fired=1>")
    assert page.evaluate("window.fired") is None
    assert "vulnerab" not in page.locator("body").inner_text().lower()
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []
    # j and k walk from one to the next, round the end
    starts = sorted({f["tokens"][0] for f in found})
    for start in [*starts, starts[0]]:
        page.keyboard.press("j")
        expect(chosen(page)).to_have_attribute("data-t", str(start))
    page.keyboard.press("k")
    expect(chosen(page)).to_have_attribute("data-t", str(starts[-1]))
    assert starts[-1] == shell["tokens"][0]
    for words in (
        "Analyser-detected",
        "bandit/B605",
        "CWE-78",
        "confidence high",
        shell["message"],
    ):
        expect(inspector(page)).to_contain_text(words)


def test_a_finding_is_marked_as_it_is_written_and_its_risk_measured(
    page: Page, axe: Callable[..., list[str]]
) -> None:
    page.get_by_role("textbox", name="Length").fill("12")
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.insert_text("import os\n\ndef remove(path):\n    os.system(")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".surface .tk.found").first).to_be_visible()
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    page.keyboard.press("j")
    listed = inspector(page).locator(".findings > li").first
    expect(listed).to_contain_text("bandit/B605")
    with page.expect_response(lambda r: "/risk?" in r.url, timeout=120_000) as told:
        listed.get_by_role("button", name="How likely was it?").click()
    risk = told.value.json()
    shown = listed.get_by_role("group", name="Risk mass")
    expect(shown).to_contain_text(risk["method"])
    expect(shown).to_contain_text(f"from token {risk['at']} on")
    ends = [float(x) for x in re.findall(r"[\d.]+", shown.locator("b").inner_text())]
    assert ends == pytest.approx([risk["lower"], risk["upper"]], abs=6e-4)
    assert risk["price"] is None or "nats" in shown.inner_text()
    assert axe(page, ".inspector") == []
    assert risk["safe"] is not None
    shown.get_by_role("button", name="Open it as a branch").click()
    expect(page.get_by_role("treeitem")).to_have_count(2)
    expect(page.locator(".surface")).to_contain_text(risk["safe"]["text"].strip().split("\n")[0])
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()


def test_edit_likelihood_says_how_good_it_is(
    page: Page, server: Server, axe: Callable[..., list[str]]
) -> None:
    expect(page.get_by_role("banner")).to_be_visible()
    made: dict[str, Any] = page.evaluate(SCORE, CODE)
    page.goto("about:blank")
    page.goto(f"{server.address}/#session={made['session']}&node={made['node']}")
    shown = page.get_by_role("region", name="Which lines would a human change?")
    with page.expect_response(lambda r: r.url.endswith("/likelihood"), timeout=120_000) as told:
        shown.get_by_role("button", name="Estimate").click()
    answer = told.value.json()
    if told.value.status == 409:  # nothing was learnt for this model: it says what to run
        expect(shown.get_by_role("alert")).to_contain_text("learn-edits")
    else:
        expect(shown).to_contain_text(answer["quality"]["verdict"])
        expect(shown.get_by_role("img")).to_have_attribute("aria-label", re.compile("calibration"))
        expect(shown.locator("tbody tr")).to_have_count(1 + len(answer["quality"]["rivals"]))
        shown.get_by_role("button", name="Colour by it").click()
        expect(page.locator("footer")).to_contain_text("estimate")
    assert axe(page, ".inspector") == []
