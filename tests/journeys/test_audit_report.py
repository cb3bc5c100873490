"""The report in a browser: 200 attempts at script do nothing, and it works without any."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from tests.evidence.hostile import RUN, vectors
from tests.evidence.test_reports import hostile
from tests.journeys.conftest import AXE
from tokenscope.runs.audit import write


def fired(browser: Browser, address: str) -> bool:
    """Whether anything ran, with every kind of event that a vector waits for."""
    page = browser.new_page()
    page.goto(address)
    page.evaluate("document.querySelectorAll('*').forEach(e => { e.focus?.(); "
                  "for (const n of ['mouseover', 'focus', 'toggle', 'pointerenter']) "
                  "e.dispatchEvent(new Event(n)); })")  # fmt: skip
    page.wait_for_timeout(200)
    found = page.evaluate("window.fired === 1")
    page.close()
    return bool(found)


def test_no_vector_runs_and_a_control_does(browser: Browser, tmp_path: Path) -> None:
    made = hostile(tmp_path)
    written = write(made, tmp_path, ["html", "markdown"])
    assert len(vectors()) == 200
    assert not fired(browser, written["html"].as_uri())
    rendered = tmp_path / "markdown.html"  # Markdown passes HTML through: look at it as HTML
    rendered.write_text("<meta charset=utf-8>" + written["markdown"].read_text())
    assert not fired(browser, rendered.as_uri())
    control = tmp_path / "control.html"
    control.write_text(f"<meta charset=utf-8><script>{RUN}</script>")
    assert fired(browser, control.as_uri())
    live = [v for v in vectors() if v.startswith(("<img onerror", "<svg onload", "<iframe onload"))]
    # without anything that holds them they do run
    assert all(fired(browser, _page(tmp_path, n, v)) for n, v in enumerate(live)) and len(live) == 3


def _page(folder: Path, number: int, text: str) -> str:
    file = folder / f"control{number}.html"
    file.write_text(f"<meta charset=utf-8><p>{text}</p>")
    return file.as_uri()


def test_the_report_opens_folds_and_is_accessible(browser: Browser, tmp_path: Path) -> None:
    path = write(hostile(tmp_path), tmp_path, ["html"])["html"]
    page = browser.new_page(bypass_csp=True)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(path.as_uri())
    assert page.locator("h1").inner_text().startswith("Audit: ")
    fourth = page.locator("main > details").nth(3)
    assert fourth.get_attribute("open") is None
    fourth.locator("summary").click()
    assert fourth.locator("pre").is_visible()
    assert asked == [path.as_uri()]  # nothing is fetched
    if AXE.is_file():
        page.add_script_tag(path=str(AXE))
        found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa']})")
        assert [v["id"] for v in found["violations"]] == []
    page.close()
