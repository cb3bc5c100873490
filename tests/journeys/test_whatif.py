"""What if: edits are picked, tried, compared, kept by name and put in force."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Server
from tests.journeys.waiting import branched

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
    expect(page.locator(".surface")).to_contain_text("result.append(")  # what it writes by itself
    expect(panel(page).get_by_role("button", name="Decode with these edits")).to_be_disabled()
    ban(page, "append\nitem")
    panel(page).get_by_role("button", name="Decode with these edits").click()
    expect(rows(page)).to_have_count(2)
    branched(page, made["node"])
    expect(side(page, 0)).to_contain_text("result.append")
    own = page.evaluate(
        "async () => { const id = new URLSearchParams(location.hash.slice(1)).get('node');"
        "return (await fetch('api/nodes/' + id)).json() }"
    )
    assert own["node"]["parent"] == made["node"]
    assert "price" in own["columns"]
    after = side(page, 1).inner_text().split("for item in items:")[1]
    assert "item" not in after and "append" not in after
    expect(page.get_by_role("region", name="Before and after")).to_contain_text("price")
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []


def test_a_slider_decodes_again_and_the_trial_makes_room(page: Page, made: dict[str, Any]) -> None:
    panel(page).get_by_label("Add an edit").select_option("bias_text")
    panel(page).get_by_label("Strings, one a line").fill("yield")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(rows(page)).to_have_count(2)
    first = branched(page, made["node"])
    expect(side(page, 1)).not_to_contain_text("yield")
    slider = panel(page).get_by_role("slider", name="Nats")
    slider.focus()
    page.keyboard.press("End")
    expect(side(page, 1)).to_contain_text("yield")
    branched(page, first)
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
    expect(page.get_by_role("region", name="Prompt", exact=True)).to_contain_text("1 edit")
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text("def total(items):\n    result = 0\n    for item in items:\n        ")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    text = page.locator(".surface .tk:not(.prompt)").all_inner_texts()
    assert text and "result" not in "".join(text)


def explore(page: Page, **plan: int) -> None:
    for name, value in plan.items():
        page.get_by_label(name, exact=True).fill(str(value))
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Explore", exact=True).click()


def test_outcomes_of_an_exploration(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    outcomes = page.get_by_role("region", name="Outcomes")
    expect(outcomes).to_contain_text("at most 16 branches, 192 tokens")  # before it begins
    explore(page, width=3, depth=1, horizon=6)
    expect(outcomes.get_by_text("exact masses of the model")).to_be_visible()
    rows_ = outcomes.locator(".outcome")
    # the token at which the choice was made gets its mark last: then all is told
    mark = page.locator(".surface .tk.changes")
    expect(mark).to_have_count(1)
    expect(rows_).to_have_count(3)
    # the masses are the model's own probabilities of the three likeliest tokens, and the rest
    likeliest = page.evaluate(
        """async (node) => {
          const trace = await (await fetch(`api/nodes/${node}`)).json()
          const octets = await (await fetch(`api/nodes/${node}/alternatives`)).arrayBuffer()
          const n = trace.ids.length * trace.k
          const logprobs = new Float32Array(octets, 4 * n)
          return [0, 1, 2].map((i) => Math.exp(logprobs[trace.n_prompt * trace.k + i]))
        }""",
        made["node"],
    )
    told = [float(t.rstrip(" %").lstrip("<")) for t in rows_.locator("b").all_inner_texts()]
    assert told == pytest.approx([100 * p for p in likeliest], abs=0.51)
    rest = outcomes.locator(".unexplored b").inner_text()
    assert float(rest.rstrip(" %")) == pytest.approx(100 * (1 - sum(likeliest)), abs=0.51)
    bar = page.get_by_role("group", name="What would come of it")
    widths = bar.locator(".slice").evaluate_all("all => all.map((x) => x.clientWidth)")
    assert widths[0] == max(widths[:-1]) and bar.locator(".unexplored").count() == 1
    mark.click()  # selected, it tells where each leads
    expect(outcomes.locator(".split li")).to_have_count(3)
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []
    # a slice opens its best branch
    label = rows_.nth(1).locator(".text").inner_text()
    bar.get_by_role("button").nth(1).click()
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".surface")).to_contain_text(label.split()[0])
    expect(rows_).to_have_count(3)  # the exploration is still there beside its branch


def test_a_sampled_exploration_is_stopped_and_keeps_what_it_has(
    page: Page, made: dict[str, Any]
) -> None:
    outcomes = page.get_by_role("region", name="Outcomes")
    outcomes.get_by_role("button", name="Sampled").click()
    explore(page, draws=500, horizon=40)
    stop = page.get_by_role("button", name="Stop exploring")
    expect(stop).to_be_visible()
    expect(outcomes.locator(".outcome").first).to_be_visible()
    stop.click()
    expect(page.get_by_role("button", name="Explore", exact=True)).to_be_visible()
    expect(outcomes).to_contain_text("95 % intervals")
    expect(outcomes.locator(".outcome").first).to_be_visible()


def test_forking_tokens_are_marked_by_what_they_change(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    page.get_by_role("button", name="Forking tokens").click()
    forking = page.get_by_role("region", name="Forking tokens")
    forking.get_by_label("one outcome is").select_option("bytes")
    with page.expect_request(lambda r: r.url.endswith("/forking")) as asked:
        forking.get_by_role("button", name="Find forking tokens").click()
    assert asked.value.post_data_json["outcome"] == "bytes"
    expect(forking.locator("[data-skipped]")).to_contain_text("skipped")
    expect(forking.get_by_role("button", name="Find forking tokens")).to_be_visible()
    rows_ = forking.get_by_role("table").locator("tbody tr")
    told = rows_.evaluate_all(
        "all => all.map((r) => [parseInt(r.querySelector('button').textContent),"
        " Number(r.querySelector('td').textContent)])"
    )
    assert len(told) >= 2 and [v for _, v in told] == sorted((v for _, v in told), reverse=True)
    # a mark below each token that changes something, as large as what it changes
    marks = page.locator(".surface .tk.changes[role=option]")
    sizes = dict(marks.evaluate_all("all => all.map((x) => [x.dataset.t, x.dataset.change])"))
    assert {int(t): float(v) for t, v in sizes.items()} == pytest.approx(
        {t: v for t, v in told if v > 0}, abs=0.006
    )
    # hover and selection tell where each alternative leads
    first = told[0][0]
    token = page.locator(f".surface [data-t='{first}']").first
    token.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("leads to")
    token.click()
    expect(forking.locator(".split button")).to_have_count(4)
    # the measured columns are columns
    page.get_by_label("Colour by").select_option("fork_tv")
    expect(page.locator("footer")).to_contain_text("estimate")
    page.mouse.move(5, 5)
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []


def test_two_branches_are_compared_in_numbers(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    ban(page, "append\nitem")
    panel(page).get_by_role("button", name="Decode with these edits").click()
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    numbers = page.get_by_role("region", name="Compared in numbers")
    expect(numbers).to_contain_text("they part at")
    told = page.evaluate(
        """async (base) => {
          const node = new URLSearchParams(location.hash.slice(1)).get('node')
          return (await fetch(`api/nodes/${base}/compare/${node}`)).json()
        }""",
        made["node"],
    )
    fork = told["fork"]
    expect(numbers).to_contain_text(f"token {fork['a']} and {fork['b']}")
    shown = numbers.get_by_role("row", name="ln p of what differs").get_by_role("cell")
    for n, side_ in enumerate(("a", "b")):
        text = shown.nth(n).inner_text().replace("\N{MINUS SIGN}", "-")
        assert float(text) == pytest.approx(told["joint_logprob"]["differs"][side_], rel=0.01)
    numbers.get_by_role("switch", name="Exact").click()
    expect(numbers).not_to_contain_text("\N{GREATER-THAN OR EQUAL TO}")
    assert axe(page, ".numbers") == []


def test_a_steering_vector_is_made_and_its_strength_moved(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    panel(page).get_by_label("Add an edit").select_option("steer")
    form = panel(page).get_by_role("group", name="Steer")
    form.get_by_label("Towards").fill("def add(a, b):\ndef mul(x, y):")
    form.get_by_label("Away from").fill("class Point:\nclass Node:")
    form.get_by_label("layer").fill("2")
    form.get_by_label("Name of the vector").fill("functions")
    form.get_by_role("button", name="Make", exact=True).click()
    expect(form.get_by_label("Vector", exact=True)).to_contain_text("functions, layer 2")
    expect(form).to_contain_text("of the stream there")
    assert axe(page, ".edits") == []
    panel(page).get_by_role("button", name="Decode with these edits").click()
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".main dl dt:has-text('ended')")).to_be_visible()
    first = page.url
    slider = form.get_by_role("slider", name="Strength")
    slider.focus()
    page.keyboard.press("End")
    expect(form.get_by_role("textbox", name="Strength")).to_have_value("4")
    page.wait_for_url(lambda url: url != first)
    # the edit stands in the branch's origin once it has ended
    page.wait_for_function(
        """async () => {
          const id = new URLSearchParams(location.hash.slice(1)).get('node')
          const { origin } = await (await fetch('api/nodes/' + id)).json()
          return origin.edits?.[0]?.strength === 4
        }"""
    )


def test_a_ledger_of_two_arms(
    page: Page, made: dict[str, Any], axe: Callable[..., list[str]]
) -> None:
    ban(page, "append")
    panel(page).get_by_label("Name of the set").fill("no append")
    panel(page).get_by_role("button", name="Keep").click()
    page.get_by_role("navigation", name="Views").get_by_role("button", name="Ledger").click()
    form = page.get_by_role("form", name="A ledger")
    form.get_by_label("no append").check()
    form.get_by_label("and these").fill(
        "def total(items):\n    result = 0\n    for item in items:\n        \n---\ndef mean(xs):\n"
    )
    form.get_by_label("tokens", exact=True).fill("8")
    form.get_by_text("Reference text").click()
    form.get_by_label("Reference text").fill("def add(a, b):\n    return a + b\n")
    expect(form).to_contain_text("2 prompts × 2 arms × 1 draw = 4 runs")
    form.get_by_role("button", name="Measure").click()
    arms = page.get_by_role("region", name="Arms")
    link = arms.get_by_role("link", name="JSON")
    expect(link).to_be_visible()
    rows_ = arms.get_by_role("table").locator("tbody tr")
    expect(rows_).to_have_count(2)
    expect(rows_.nth(1)).to_contain_text("no append")
    with page.expect_download() as fetched:
        link.click()
    kept = json.loads(fetched.value.path().read_text())
    changed = next(a for a in kept["arms"] if a["name"] == "no append")
    assert changed["name"] in rows_.nth(1).inner_text()
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []
    page.reload()  # it is taken up again
    expect(rows_).to_have_count(2)
