"""The notebook widget in a real browser, its clicks answered by the real Python side."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tokenscope.pictures.paper import STYLE
from tokenscope.runs.model import Model
from tokenscope.runs.widget import SCRIPT, Explorer

HOST = "<!doctype html><html lang='en'><title>notebook</title><main id='cell'></main></html>"
START = """async ([source, view]) => {
  const held = { view };
  const heard = [];
  window.model = {
    get: (name) => held[name],
    set: (name, value) => { held[name] = value; },
    on: (_, call) => heard.push(call),
    off: () => {},
    send: async (message) => {
      held.view = JSON.parse(await window.told(JSON.stringify(message)));
      heard.forEach((call) => call());
    },
  };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  widget.render({ model: window.model, el: document.getElementById("cell") });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hover_alternatives_and_click_to_branch(
    browser: Browser, bundled: Model, scheme: Any
) -> None:
    trace = bundled.score("x = '<img src=x onerror=window.bad=1>\u202e'\nfor i in range(10):")
    explorer: Explorer = bundled.explorer(trace, max_new_tokens=6)
    page = browser.new_page(color_scheme=scheme)
    page.set_content(HOST)
    page.add_style_tag(content=STYLE)

    def told(message: str) -> str:
        explorer.told(json.loads(message))
        return json.dumps(explorer.widget.view)

    page.expose_function("told", told)
    page.evaluate(START, [SCRIPT.read_text(), explorer.widget.view])
    spans = page.locator(".code span")
    assert spans.count() == len(trace)
    at = len(trace) - 3
    spans.nth(at).hover()
    expect(page.locator(".panel b")).to_contain_text(f"token {at}:")
    spans.nth(at).click()
    spans.nth(2).hover()  # a token that was clicked stays
    expect(page.locator(".panel b")).to_contain_text(f"token {at}:")
    page.locator(".alternative:not(:disabled)").first.click()
    expect(page.locator(".branches .shown")).to_contain_text(f"1 at {at}:")
    assert explorer.shown == "1" and len(explorer.trace) == at + 1 + 6
    assert spans.count() == len(explorer.trace)
    page.locator(".branches button").first.click()
    expect(page.locator(".branches .shown")).to_contain_text("base")
    page.locator("select").select_option("entropy")
    expect(page.locator(".legend")).to_contain_text("Entropy")
    page.locator(".code").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".panel b")).to_contain_text("token 0:")
    page.evaluate("model.send({what: 'show', branch: 'none'})")
    expect(page.locator(".problem")).to_contain_text("no branch")
    assert page.evaluate("window.bad") is None
    assert "\u202e" not in page.locator(".code").inner_text()
    assert page.locator(".code img").count() == 0
    page.close()
