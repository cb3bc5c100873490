"""A session with many branches: find, sort, fold, mark, write a note, by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Server
from tests.journeys.waiting import until

BRANCHES = 62

# Forks of one root and of one another; a short text each, so that they are made in seconds.
MAKE = """async (branches) => {
  const send = async (method, path, body) => {
    for (;;) {
      const answer = await fetch('api/' + path, {method, body: body && JSON.stringify(body),
        headers: {'content-type': 'application/json'}})
      if (answer.status !== 503) return answer.json()
      await new Promise((again) => setTimeout(again, 20))
    }
  }
  const over = async (job) => {
    await (await fetch('api/events?run=' + job.run)).text()
    return job
  }
  const settings = {max_new_tokens: 1, alternatives: 3}
  const session = await send('POST', 'sessions', {title: 'many'})
  const prompt = 'def total(items):\\n    result = 0\\n    for item in items:\\n        '
  const root = await over(await send('POST', `sessions/${session.id}/generate`,
    {prompt, settings: {...settings, max_new_tokens: 12}}))
  const whole = await send('GET', `nodes/${root.node}`)
  let n = 1
  const work = async () => {
    while (n < branches - 3) {
      const i = n++
      await over(await send('POST', `nodes/${root.node}/fork`,
        {at: whole.n_prompt + i % 9, text: `value_${i} = 0`, settings}))
    }
  }
  await Promise.all([1, 2, 3].map(work))
  let tip = root.node  // a line of only children below one of them
  for (const [i, text] of ['deep_a = 1', 'deep_b = 2', 'deep_c = 3'].entries()) {
    const at = whole.n_prompt + 1 + i
    tip = (await over(await send('POST', `nodes/${tip}/fork`, {at, text, settings}))).node
  }
  return {session: session.id, node: root.node, tip}
}"""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What the first journey made; the others look at it too."""
    return {}


@pytest.fixture
def many(page: Page, server: Server, made: dict[str, Any]) -> Page:
    """The session with many branches, its root shown."""
    expect(page.get_by_role("banner")).to_be_visible()
    if not made:
        made.update(page.evaluate(MAKE, BRANCHES))
    page.goto("about:blank")
    page.goto(f"{server.address}/#session={made['session']}&node={made['node']}")
    expect(rows(page).first).to_be_visible()
    expect(page.locator(".surface .tk").first).to_be_visible()  # all of it is there
    return page


def rows(page: Page) -> Locator:
    return page.get_by_role("treeitem")


def shown(page: Page) -> Locator:
    return page.get_by_role("treeitem", selected=True)


def test_many_siblings_fold_and_unfold(many: Page, axe: Callable[..., list[str]]) -> None:
    more = rows(many).filter(has_text="more branches")
    expect(more).to_have_count(1)
    assert rows(many).count() < 30, "a few stand for all"
    for theme in ("light", "dark"):
        many.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(many) == []
    more.click()
    expect(more).to_have_count(0)
    assert many.get_by_role("tree").evaluate("it => it.scrollHeight") > 1500


def test_a_branch_is_found_by_its_text(many: Page) -> None:
    many.keyboard.press("f")
    field = many.get_by_role("searchbox", name="Find a branch")
    expect(field).to_be_focused()
    many.keyboard.type("value_17 =")
    expect(rows(many)).to_have_count(2)  # the one, and the way to it
    expect(many.get_by_role("region", name="Branches")).to_contain_text(f"1 of {BRANCHES}")
    many.keyboard.press("Enter")
    many.keyboard.press("ArrowDown")
    expect(shown(many)).to_contain_text("value_17")
    expect(many.locator(".surface")).to_contain_text("value_17")
    field.fill("no such words")
    expect(many.get_by_text("No branch has all of these words.")).to_be_visible()


def test_order_and_colour_by_a_figure(many: Page) -> None:
    many.get_by_label("Order of the branches").select_option("own_surprisal")
    many.get_by_label("Colour of the branches").select_option("own_surprisal")

    def in_order() -> bool:
        told = [float(t) for t in many.locator(".told").all_inner_texts()[1:9]]
        return told == sorted(told) and told[0] < told[-1]

    def coloured() -> bool:
        all_ = many.locator(".row .dot").evaluate_all("d => d.map(x => x.style.backgroundColor)")
        return len(set(all_[1:9]) - {""}) > 1

    until(in_order)
    until(coloured)
    many.reload()
    expect(many.get_by_label("Order of the branches")).to_have_value("own_surprisal")
    many.get_by_label("Colour of the branches").select_option("finish")
    expect(many.get_by_text(f"length {BRANCHES}")).to_be_visible()


def test_a_line_of_only_children_stays_in_its_place(many: Page, made: dict[str, Any]) -> None:
    many.evaluate(
        "hash => { location.hash = hash }", f"session={made['session']}&node={made['tip']}"
    )
    expect(shown(many)).to_contain_text("deep_c")
    left = [
        rows(many).filter(has_text=word).locator(".dot").bounding_box()["x"]  # type: ignore[index]
        for word in ("deep_a", "deep_b", "deep_c")
    ]
    assert left[0] == left[1] == left[2]
    levels = [
        rows(many).filter(has_text=word).get_attribute("aria-level")
        for word in ("deep_a", "deep_b", "deep_c")
    ]
    assert levels == ["2", "3", "4"]
    shown(many).focus()
    many.keyboard.press("ArrowLeft")
    expect(shown(many)).to_contain_text("deep_b")
    expect(shown(many)).to_be_focused()
    many.keyboard.press("ArrowLeft")  # closes it
    expect(rows(many).filter(has_text="deep_c")).to_have_count(0)
    expect(shown(many)).to_have_attribute("aria-expanded", "false")
    many.keyboard.press("ArrowRight")
    many.keyboard.press("ArrowRight")
    expect(shown(many)).to_contain_text("deep_c")


def test_a_bookmark_and_a_note_are_kept(many: Page) -> None:
    many.get_by_label("Find a branch").fill("value_21")
    rows(many).filter(has_text="value_21").click()
    expect(shown(many)).to_contain_text("value_21")
    expect(many.locator(".surface")).to_contain_text("value_21")
    many.keyboard.press("b")
    expect(many.locator("[aria-selected=true] .star")).to_be_visible()
    many.keyboard.press("i")
    note = many.get_by_role("textbox", name="Note")
    expect(note).to_be_visible()
    note.fill("compare <b>this</b> with the root")
    many.get_by_role("button", name="Keep the note").click()
    many.reload()
    expect(many.locator(".what")).to_contain_text("note: compare <b>this</b>")
    many.get_by_role("button", name="Bookmarked ones only").click()
    expect(rows(many)).to_have_count(2)
    many.get_by_role("button", name="Bookmarked ones only").click()
    many.get_by_label("Find a branch").fill("compare root")
    expect(rows(many)).to_have_count(2)
    expect(shown(many)).to_contain_text("value_21")
