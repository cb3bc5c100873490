"""The main job, as a user meets it: prompt, watch, hover, branch, compare, find it again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.waiting import ENDED, branched, until

PROMPT = "def total(items):\n    result = 0\n    for item in items:\n        "
Opener = Callable[..., Page]
Axe = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A shared machine decodes slowly at times."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def generate(page: Page, prompt: str = PROMPT, tokens: int = 24) -> None:
    """Write a prompt, press Generate, wait for the end."""
    start(page, prompt, tokens)
    expect(page.locator(ENDED)).to_be_visible()


def start(page: Page, prompt: str = PROMPT, tokens: int = 24) -> None:
    """Write a prompt and press Generate."""
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill(str(tokens))
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(prompt)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("listbox", name="The code, token by token")).to_be_visible()


def token(page: Page, index: int) -> Locator:
    """The first piece of a token on the surface."""
    return page.locator(f"#token-{index}")


def made(page: Page) -> Locator:
    """Tokens that the model made."""
    return page.locator(".tk[role=option]:not(.prompt)")


def shown(page: Page) -> dict[str, str]:
    """What the address says is shown."""
    return dict(re.findall(r"(\w+)=([^&]*)", page.url.partition("#")[2]))


def branches(page: Page) -> Locator:
    """Rows of the tree."""
    return page.get_by_role("treeitem")


def first_generated(page: Page) -> int:
    """Index of the first token that the model made."""
    expect(made(page).first).to_be_visible()
    label = made(page).first.get_attribute("data-t")
    assert label is not None
    return int(label)


def test_generate_streams_tokens_that_are_coloured_and_counted(page: Page) -> None:
    generate(page)
    expect(made(page).nth(19)).to_be_visible()
    fills = {made(page).nth(i).get_attribute("data-fill") for i in range(10)}
    assert len(fills - {""}) > 2, "tokens are coloured by their surprisal"
    assert token(page, 1).get_attribute("data-fill") == "", "the prompt is in quiet ink"
    expect(page.locator("header dl")).to_contain_text("perplexity")
    expect(page.locator("header dl")).to_contain_text("tokens/s")
    assert shown(page)["session"] and shown(page)["node"]


def test_text_of_the_surface_is_the_text_of_the_trace(page: Page) -> None:
    generate(page)
    node = shown(page)["node"]
    trace = page.evaluate("id => fetch(`api/nodes/${id}`).then(r => r.json())", node)
    rows = page.locator(".surface .row").all_inner_texts()
    drawn = "".join(re.sub(r"^(\d+|↳)", "", row.replace("\n", "")) for row in rows)
    whole = page.evaluate(
        "data => new TextDecoder().decode(Uint8Array.from(atob(data), c => c.charCodeAt(0)))",
        trace["data"],
    )
    squeeze = re.compile(r"\s+|<\|[a-z_]+\|>")
    assert squeeze.sub("", drawn) == squeeze.sub("", whole)


def test_hover_shows_numbers_and_alternatives_that_sum_to_one(page: Page) -> None:
    generate(page)
    made(page).nth(4).hover()
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("Surprisal")
    shares = tip.locator("li .p").all_inner_texts()
    assert len(shares) >= 5
    total = sum(float(s.replace("−", "-").replace(">", "")) for s in shares)
    assert abs(total - 1) < 0.02, shares
    expect(tip).to_contain_text("all others")


def test_a_click_on_an_alternative_grows_a_branch(page: Page) -> None:
    generate(page)
    before = shown(page)["node"]
    at = first_generated(page) + 3
    token(page, at).click()
    choice = page.locator("button[data-alternative]:not(:disabled)").first
    wanted = choice.locator(".text").inner_text()
    choice.click()
    expect(branches(page)).to_have_count(2)
    branched(page, before)
    expect(token(page, at)).to_have_class(re.compile(r"\bhere\b"))  # where it differs is marked
    expect(page.locator("aside li.chosen .text")).to_have_text(wanted, use_inner_text=True)
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile(f"node={before}"))
    expect(token(page, at)).to_have_class(re.compile(r"\bfork\b"))


def test_typing_over_selected_tokens_grows_a_branch(page: Page) -> None:
    generate(page)
    before = shown(page)["node"]
    at = first_generated(page) + 2
    token(page, at).click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.type("while True")
    expect(page.get_by_role("textbox", name="Text in place of 2 tokens")).to_be_visible()
    page.keyboard.press("Enter")
    expect(branches(page)).to_have_count(2)
    branched(page, before)
    expect(page.locator(".surface")).to_contain_text("while True")
    expect(page).to_have_url(re.compile(f"token={at}\\b"))


def test_stop_ends_decoding_and_keeps_what_was_made(page: Page) -> None:
    # greedy it would repeat itself, and be done within a second
    page.get_by_role("textbox", name="Temperature").fill("1.5")
    page.get_by_role("textbox", name="Seed").fill("4")
    start(page, tokens=1500)
    expect(made(page).nth(3)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(ENDED)).to_be_visible()
    expect(page.locator("header dl")).to_contain_text("stopped by you")
    assert 3 < made(page).count() < 1500


def test_a_reload_shows_the_same_and_the_session_is_listed(page: Page) -> None:
    generate(page)
    made(page).nth(5).click()
    expect(page).to_have_url(re.compile("token="))
    address = page.url
    text = page.locator(".surface").inner_text()
    page.reload()
    expect(made(page).nth(5)).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(address)
    until(lambda: page.locator(".surface").inner_text() == text)
    page.get_by_role("button", name="New prompt").first.click()
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    page.get_by_role("navigation", name="Sessions").locator("button.entry").first.click()
    expect(page.locator(ENDED)).to_be_visible()
    assert shown(page)["session"] == dict(re.findall(r"(\w+)=([^&]*)", address))["session"]


def test_back_goes_to_the_branch_before(page: Page) -> None:
    generate(page)
    before = shown(page)["node"]
    token(page, first_generated(page)).click()
    page.locator("button[data-alternative]:not(:disabled)").first.click()
    expect(branches(page)).to_have_count(2)
    branched(page, before)
    page.go_back()
    expect(branches(page).first).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile(f"node={before}"))


def test_a_deleted_branch_comes_back(page: Page) -> None:
    generate(page)
    before = shown(page)["node"]
    token(page, first_generated(page) + 1).click()
    page.locator("button[data-alternative]:not(:disabled)").first.click()
    expect(branches(page)).to_have_count(2)
    gone = branched(page, before)
    branches(page).nth(1).press("Delete")
    expect(branches(page)).to_have_count(1)
    expect(page).not_to_have_url(re.compile(f"node={gone}"))
    page.get_by_role("button", name="Undo").click()
    expect(branches(page)).to_have_count(2)
    expect(branches(page).nth(1)).to_have_attribute("aria-selected", "true")


def test_a_deleted_session_comes_back(page: Page) -> None:
    generate(page)
    entries = page.get_by_role("navigation", name="Sessions").locator("button.entry")
    expect(entries.first).to_have_attribute("aria-current", "true")
    count = entries.count()
    entries.first.focus()
    page.keyboard.press("Delete")
    expect(entries).to_have_count(count - 1)
    page.keyboard.press("u")
    expect(entries).to_have_count(count)
    expect(page.locator(ENDED)).to_be_visible()


def test_names_can_be_changed(page: Page) -> None:
    generate(page)
    entry = page.get_by_role("navigation", name="Sessions").locator("button.entry").first
    entry.press("F2")
    field = page.get_by_role("textbox", name="Title of the session")
    field.fill("A name of my own")
    field.press("Enter")
    expect(entry).to_contain_text("A name of my own")
    branches(page).first.press("F2")
    field = page.get_by_role("textbox", name="Title of the branch")
    field.fill("the base")
    field.press("Enter")
    expect(branches(page).first).to_contain_text("the base")


def test_everything_goes_by_keyboard_alone(page: Page) -> None:
    """From an empty page to a branch and back, without a mouse."""
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(PROMPT)
    page.keyboard.press("ControlOrMeta+Enter")
    expect(page.locator(ENDED)).to_be_visible()
    before = shown(page)["node"]
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("token="))
    first = int(shown(page)["token"])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    here = first + 2
    expect(token(page, here)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    expect(token(page, here - 1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("button[data-alternative]:focus")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(branches(page)).to_have_count(2)
    branch = branched(page, before)
    page.keyboard.press("[")
    expect(branches(page).first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("]")
    expect(branches(page).nth(1)).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile(f"node={branch}"))
    page.keyboard.press("/")
    page.keyboard.type("colour by entropy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Colour by")).to_have_value("entropy")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".tk[aria-selected=true]")).to_have_count(0)


def test_attention_is_painted_both_ways_and_without_the_sink(page: Page) -> None:
    generate(page)
    at = first_generated(page) + 6
    token(page, at).click()
    page.keyboard.press("a")
    panel = page.get_by_role("complementary", name="Token")
    expect(panel).to_contain_text("What did it look at?")
    expect(panel.locator("ol li button").first).to_be_visible()
    expect(token(page, at - 1)).not_to_have_attribute("data-fill", "")  # it has some weight
    expect(token(page, at + 1)).to_have_attribute("data-fill", "")  # nothing looks ahead
    expect(token(page, 0)).to_have_attribute("data-fill", "")  # the sink is taken out
    panel.get_by_role("switch", name="Without token 0").click()
    expect(token(page, 0)).not_to_have_attribute("data-fill", "")
    panel.get_by_role("combobox", name="layer").select_option("max")
    panel.get_by_role("combobox", name="head").select_option("0")
    token(page, at).click()
    page.keyboard.press("d")
    expect(panel).to_contain_text("Who looked at it?")
    expect(token(page, at + 1)).not_to_have_attribute("data-fill", "")


def test_a_text_can_be_scored(page: Page) -> None:
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_role("textbox", name="Text to score").click()
    page.keyboard.insert_text("import os\nprint(os.getcwd())\n")
    page.locator("button.go").click()
    expect(page.locator(ENDED)).to_be_visible()
    expect(page.locator(".surface")).to_contain_text("getcwd")


def test_a_gap_can_be_filled(page: Page) -> None:
    page.get_by_role("button", name="Infill", exact=True).click()
    page.get_by_role("textbox", name="Before the gap").click()
    page.keyboard.insert_text("def mean(xs):\n    total = ")
    page.get_by_role("textbox", name="After the gap").click()
    page.keyboard.insert_text("\n    return total / len(xs)\n")
    page.get_by_role("textbox", name="Length").fill("12")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(ENDED)).to_be_visible()
    expect(page.locator(".tk.special").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Opener, server: Any, axe: Axe, scheme: str) -> None:
    """Every state of the page, in both themes."""
    page = open_page(server.url, color_scheme=scheme)
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_visible()
    found = {"compose": axe(page)}
    generate(page)
    found["trace"] = axe(page)
    made(page).nth(5).hover()
    expect(page.get_by_role("tooltip")).to_be_visible()
    found["tooltip"] = axe(page)
    made(page).nth(5).click()
    page.keyboard.press("w")
    page.keyboard.press("o")
    found["inspector, all coloured"] = axe(page)
    page.keyboard.press("a")
    expect(page.locator("aside ol li button").first).to_be_visible()
    found["attention"] = axe(page)
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Find a command")).to_be_visible()
    found["palette"] = axe(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    found["keys"] = axe(page)
    page.keyboard.press("Escape")
    page.keyboard.press("w")
    page.keyboard.press("o")
    assert {state: v for state, v in found.items() if v} == {}


HOSTILE = (
    "# <img src=x onerror=document.title='owned'> \u202eevil\u202c \u200b\u2066x\u2069 \x1b[31m\n"
    "s = '</script><script>document.title=\"owned\"</script>'  # \ufeff \u00a0 \u0301\u0301\u0301\n"
)


def test_hostile_tokens_are_text_and_nothing_hides(page: Page) -> None:
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_role("textbox", name="Text to score").click()
    page.keyboard.insert_text(HOSTILE)
    page.locator("button.go").click()
    expect(page.locator(ENDED)).to_be_visible()
    surface = page.locator(".surface")
    for name in ("RLO", "PDF", "ZWSP", "LRI", "PDI", "ESC", "BOM", "NBSP"):
        expect(surface.locator(".tk.hidden", has_text=re.compile(f"^{name}$"))).not_to_have_count(0)
    assert page.title() == "TokenScope"
    assert page.locator(".surface img, .surface script").count() == 0
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff]", surface.inner_text())
    page.locator(".tk.hidden").first.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("⟨")


def test_a_lost_server_is_said_and_what_was_read_stays(
    open_page: Opener, serve: Callable[..., Any]
) -> None:
    own = serve()
    page = open_page(own.url)
    generate(page)
    text = page.locator(".surface").inner_text()
    own.stop()
    page.get_by_role("button", name="New prompt").first.click()
    page.locator("button.go").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.go_back()
    expect(page.locator(".surface")).to_be_visible()
    until(lambda: page.locator(".surface").inner_text() == text)


def test_exports_are_downloads(page: Page) -> None:
    generate(page)
    page.get_by_role("navigation", name="Sessions").locator("li").first.hover()
    page.get_by_role("button", name=re.compile("^More about")).first.click()
    with page.expect_download() as waiting:
        page.get_by_role("menuitem", name="Export as JSON").click()
    whole = json.loads(waiting.value.path().read_text("utf-8"))
    assert whole


def test_a_range_has_statistics_and_the_chart_is_saved(page: Page) -> None:
    generate(page, tokens=12)
    first = first_generated(page)
    token(page, first).click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    told = page.get_by_role("region", name="Statistics of the selected tokens")
    row = told.get_by_role("row").filter(has_text="Surprisal").first
    node = shown(page)["node"]
    values = page.evaluate(
        """async ([id, t]) => {
          const answer = await fetch(`api/nodes/${id}/columns?names=surprisal`)
          return [...new Float32Array(await answer.arrayBuffer())].slice(t, t + 3)
        }""",
        [node, first],
    )
    cells = row.get_by_role("cell").all_inner_texts()
    assert float(cells[0]) == pytest.approx(sum(values) / 3, rel=0.01)
    assert float(cells[1]) == pytest.approx(sum(values), rel=0.01)
    assert cells[4] == "3"
    for name in ("Table (CSV)", "Drawing (SVG)", "Picture (PNG)"):
        page.get_by_role("button", name="Save this chart").click()
        with page.expect_download() as started:
            page.get_by_role("menuitem", name=name).click()
        data = started.value.path().read_bytes()
        if name.startswith("Table"):
            lines = data.decode().splitlines()
            assert lines[0].startswith("token,id,text,") and "surprisal" in lines[0]
            assert len(lines) >= first + 12
        else:
            assert data.startswith(b"<svg" if name.startswith("Drawing") else b"\x89PNG")
            assert len(data) > 500


def test_a_session_goes_out_as_a_file_and_comes_in_to_be_read(page: Page, tmp_path: Path) -> None:
    generate(page, tokens=8)
    before = shown(page)["node"]
    token(page, first_generated(page) + 2).click()
    page.locator("button[data-alternative]:not(:disabled)").first.click()
    expect(branches(page)).to_have_count(2)
    branched(page, before)
    text = page.locator(".surface").inner_text()
    listed = page.get_by_role("navigation", name="Sessions").locator("button.entry")
    count = listed.count()
    page.get_by_role("navigation", name="Sessions").locator("li").first.hover()
    page.get_by_role("button", name=re.compile("^More about")).first.click()
    with page.expect_download() as waiting:
        page.get_by_role("menuitem", name="Export to be shared").click()
    file = waiting.value.path()
    page.get_by_label("A saved trace or a shared session", exact=True).set_input_files(file)
    expect(listed).to_have_count(count + 1)
    expect(branches(page)).to_have_count(2)
    expect(page).not_to_have_url(re.compile(before))
    until(lambda: page.locator(".surface").inner_text() == text)
    address = page.url
    (tmp_path / "bad.tscope").write_bytes(file.read_bytes()[:-100])
    page.get_by_label("A saved trace or a shared session", exact=True).set_input_files(
        tmp_path / "bad.tscope"
    )
    expect(page.get_by_text("That file could not be opened")).to_be_visible()
    expect(listed).to_have_count(count + 1)
    # to be read only: nothing is decoded
    page.goto("about:blank")
    page.goto(address + "&read=only")
    expect(page.get_by_text("This session is open to be read")).to_be_visible()
    token(page, first_generated(page) + 1).click()
    page.locator("button[data-alternative]:not(:disabled)").first.click()
    expect(page.get_by_text("open to be read only")).to_be_visible()
    expect(branches(page)).to_have_count(2)
    assert "read=only" in page.url


def test_a_new_session_begins_with_the_prompt_of_a_branch(page: Page) -> None:
    generate(page, tokens=4)
    first = shown(page)
    page.keyboard.press("P")
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_contain_text("for item in items:")
    page.get_by_role("button", name="Generate").click()
    expect(page).to_have_url(re.compile("node="))
    expect(page).not_to_have_url(re.compile(f"node={first['node']}"))
    expect(page.locator(ENDED)).to_be_visible()
    expect(branches(page)).to_have_count(1)
    assert shown(page)["session"] != first["session"]
