"""Ask why, and look into the heads: by mouse, by keyboard, in both themes, for everybody."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.conftest import Server

PROMPT = """import os
import subprocess


def clean(path):
    os.system("rm -rf " + path)


def run(command, timeout=30):
    return subprocess.run(command, timeout=timeout, shell="""
SLOW = 120_000  # one core may be shared with other journeys

MAKE = """async prompt => {
  const ask = (path, body) => fetch('api/' + path, {
    method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(body),
  })
  const session = await (await ask('sessions', {title: 'why'})).json()
  const body = {prompt, settings: {max_new_tokens: 8}}
  const {run, node} = await (await ask(`sessions/${session.id}/generate`, body)).json()
  await (await fetch('api/events?run=' + run)).text()  // its end is the end of the run
  const trace = await (await fetch('api/nodes/' + node)).json()
  return {session: session.id, node, at: trace.n_prompt, length: trace.ids.length}
}"""


@pytest.fixture
def made(page: Page, server: Server) -> Callable[[str], dict]:
    """`made("why")`: a generated branch, shown in a view with its first own token selected."""
    expect(page.get_by_role("banner")).to_be_visible(timeout=SLOW)
    found = page.evaluate(MAKE, PROMPT)

    def show(view: str) -> dict:
        page.goto("about:blank")
        where = f"session={found['session']}&node={found['node']}&token={found['at']}&view={view}"
        page.goto(f"{server.address.rstrip('/')}/#{where}")
        return found

    return show


def mine(found: list[str]) -> list[str]:
    """Violations of the two views; the code surface has journeys of its own."""
    return [v for v in found if "label-content-name-mismatch" not in v]


def test_an_explanation_that_runs_is_taken_up_after_a_reload(
    page: Page, made: Callable[[str], dict]
) -> None:
    found = made("why")
    panel = page.get_by_role("complementary", name="Why")
    expect(panel.get_by_role("button", name="Stop")).to_be_visible(timeout=SLOW)
    page.reload()
    # shown to be running, and to its end, without having been asked again
    expect(panel.locator(".sentence")).to_be_visible(timeout=SLOW)
    expect(panel.get_by_role("button", name="Stop")).to_have_count(0, timeout=SLOW)
    jobs = page.evaluate("fetch('api/runs').then((r) => r.json())")
    mine = [j for j in jobs if j["kind"] == "explain" and j["node"] == found["node"]]
    assert len(mine) == 1


def test_why_this_rather_than_that(page: Page, made: Callable[[str], dict], axe: Callable) -> None:
    found = made("why")
    panel = page.get_by_role("complementary", name="Why")
    sentence = panel.locator(".sentence")
    expect(sentence).to_contain_text(" over ", timeout=SLOW)
    # the pictures come one after another
    for title in (
        "What if it had not been there?", "Where does it come from?", "When was it decided?",
        "Which part wrote it?", "Which part is needed?", "Where it looked, and what that did",
        "Can the attribution be trusted?",
    ):  # fmt: skip
        expect(panel.get_by_role("region", name=title).first).to_be_visible(timeout=SLOW)
    # every number links to its formula
    lens = panel.locator("section", has_text="When was it decided?")
    lens.locator("summary").click()
    expect(lens.get_by_text("nostalgebraist 2020").first).to_be_visible()
    lens.locator("summary").click()
    # another contrast, another method: another answer
    before = sentence.inner_text()
    choices = panel.get_by_label("Rather than", exact=True)
    choices.select_option(index=1)
    expect(sentence).not_to_have_text(before, timeout=SLOW)
    panel.get_by_label("Method").select_option("occlusion")
    expect(page.locator("footer").get_by_text("Occlusion", exact=True)).to_be_visible(timeout=SLOW)
    choices.select_option("-1")
    expect(sentence).to_contain_text("gave", ignore_case=True, timeout=SLOW)
    # the code is coloured by it, and the tree's own structure adds it up
    expect(page.locator('[data-t][data-fill^="#"]').first).to_be_visible(timeout=SLOW)
    panel.get_by_role("button", name="statement").click(timeout=SLOW)
    assert mine(axe(page, "aside[aria-label=Why]")) == []
    page.keyboard.press("t")
    assert mine(axe(page, "aside[aria-label=Why]")) == []
    assert found["at"] > 0


def test_one_look_is_cut(page: Page, made: Callable[[str], dict]) -> None:
    made("why")
    part = page.get_by_role("region", name="Cut one look")
    part.get_by_label("Token that may not be read").fill("3", timeout=SLOW)
    part.get_by_role("button", name="Cut").click()
    expect(part.get_by_role("status")).to_contain_text("nats", timeout=SLOW)


def test_the_keyboard_walks_and_asks(page: Page, made: Callable[[str], dict]) -> None:
    found = made("why")
    panel = page.get_by_role("complementary", name="Why")
    expect(panel.locator(".sentence code").first).to_be_visible(timeout=SLOW)
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"#token-{found['at'] + 1}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(panel.get_by_label("Rather than", exact=True)).to_be_focused()


def test_the_heads(page: Page, made: Callable[[str], dict], axe: Callable) -> None:
    found = made("attention")
    heads = page.get_by_role("complementary", name="All heads")
    heads.get_by_role("button", name="Layer 1, head 2").click(timeout=SLOW)
    matrix = page.get_by_role("application")
    expect(page.get_by_label("Head", exact=True)).to_have_value("2")
    # the crosshair by mouse, then by keyboard; the code follows
    expect(page.locator("canvas.wait")).to_have_count(0, timeout=SLOW)
    side = matrix.evaluate("it => it.clientHeight")
    matrix.hover(position={"x": 4, "y": side - 4})
    cross = page.locator(".cross")
    expect(cross).to_contain_text(f"choosing token {found['length']}", timeout=SLOW)
    matrix.focus()
    page.keyboard.press("ArrowUp")
    expect(cross).to_contain_text(f"choosing token {found['length'] - 1}")
    page.keyboard.press("+")
    page.mouse.wheel(0, -400)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.locator(f"#token-{found['length'] - 1}")).to_have_attribute("aria-selected", "true")
    # other weightings
    for name in ("Norm-weighted", "Rollout", "Weights"):
        button = page.get_by_role("button", name=name, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator("canvas.wait")).to_have_count(0, timeout=SLOW)
        expect(page.get_by_text("recomputed").first).to_be_visible(timeout=SLOW)
    # search
    heads.get_by_label("Pattern to search").select_option("previous")
    expect(heads.locator(".found li").first).to_contain_text("layer", timeout=SLOW)
    heads.get_by_label("Pattern to search").select_option("edge")
    expect(heads.locator(".found li").first).to_contain_text("layer", timeout=SLOW)
    for part in ("aside[aria-label='All heads']", "section[aria-label='One head']"):
        assert axe(page, part) == []
    page.keyboard.press("t")
    for part in ("aside[aria-label='All heads']", "section[aria-label='One head']"):
        assert axe(page, part) == []


def test_where_another_prompt_makes_the_difference(
    page: Page, made: Callable[[str], dict], axe: Callable
) -> None:
    made("why")
    part = page.get_by_role("region", name="Where does another prompt make the difference?")
    text = part.get_by_role("textbox")
    expect(text).to_have_value(PROMPT, timeout=SLOW)
    start = part.get_by_role("button", name="Patch")
    expect(start).to_be_disabled()  # nothing is changed yet
    text.fill(PROMPT.replace("shell=", "shell("))
    start.click()
    canvas = part.get_by_role("application")
    expect(canvas).to_be_visible(timeout=SLOW)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(part.get_by_role("status")).to_contain_text("of the difference")
    part.get_by_label("Part").select_option("heads")
    expect(canvas).to_have_attribute(
        "aria-label", "Patch map: layers up, heads across. Arrow keys move."
    )
    assert not mine(axe(page))


def test_every_head_of_one_token_is_a_map_and_is_saved(
    page: Page, made: Callable[[str], dict], axe: Callable
) -> None:
    found = made("attention")
    page.get_by_role("button", name="Heads × tokens").click(timeout=SLOW)
    canvas = page.get_by_role("application", name="Heads by tokens")
    expect(canvas).not_to_have_class("wait", timeout=SLOW)
    part = page.get_by_role("region", name="One head")
    expect(part.get_by_text("recomputed")).to_be_visible(timeout=SLOW)
    canvas.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    cross = page.locator(".cross")
    expect(cross).to_contain_text(f"token {found['at'] - 1}")
    # the server's own weights stand in the table, in the order of the rows
    weights = page.evaluate(
        """async ({ node, at }) => {
          const answer = await fetch(`api/nodes/${node}/attention/${at}`)
          const [, H, n] = answer.headers.get('x-attention-shape').split(',').map(Number)
          const v = new Float32Array(await answer.arrayBuffer())
          return [...v.slice(v.length - H * n, v.length - H * n + n)]  // head 0 of the last layer
        }""",
        found,
    )
    names = {}
    for name in ("Table (CSV)", "Drawing (SVG)", "Picture (PNG)"):
        page.get_by_role("button", name="Save this map").click()
        with page.expect_download() as started:
            page.get_by_role("menuitem", name=name).click()
        names[name] = started.value.path().read_bytes()
    rows = list(csv.reader(names["Table (CSV)"].decode().splitlines()))
    assert rows[1][0].endswith(".0") and len(rows[1]) == found["at"] + 1
    assert [float(v) for v in rows[1][1:]] == pytest.approx(weights, abs=1e-7)
    assert names["Drawing (SVG)"].startswith(b"<svg") and b"<path" in names["Drawing (SVG)"]
    assert names["Picture (PNG)"].startswith(b"\x89PNG") and len(names["Picture (PNG)"]) > 5000
    # Enter shows that head large
    canvas.focus()
    page.keyboard.press("End")
    words = cross.inner_text().split()
    layer, head = words[1].rstrip(","), words[3]
    page.keyboard.press("Enter")
    assert axe(page, "section[aria-label='One head']") == []
    page.get_by_role("button", name="One head", exact=True).click()
    expect(page.get_by_label("Layer", exact=True)).to_have_value(layer)
    expect(page.get_by_label("Head", exact=True)).to_have_value(head)
