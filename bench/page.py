"""How fast is the page with a trace of ten thousand tokens, and with five hundred branches?

    python -m bench.page --json

A real server (a tiny random model with a long context), a real Chromium; figures in ms, from the
browser's own performance entries. ``first_paint_ms``: from the last byte of the numbers to the
frame that shows the code (budget 1,500). ``hover_ms``: from the pointer entering a token to the
frame that shows its numbers (budget 50). ``longest_task_ms``: the longest task while scrolling
through all of it (budget 200; tasks below 50 ms are not reported by browsers, then it is 0).
``heap_mb``: the page's own memory after a collection (budget 150).

``tree_...``: the same session with ``--branches`` branches. ``tree_paint_ms``: from opening the
address, all fetched, to the frame that shows the tree (budget 3,000). ``tree_step_ms``: from a
key that goes to the next branch to the frame that shows its code (budget 300). ``tree_task_ms``:
the longest task while the tree is scrolled, sorted and searched (budget 200).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

BUNDLED = Path(__file__).parents[1] / "src/tokenscope/models/bundled"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BUDGET = {
    "first_paint_ms": 1500.0, "hover_ms": 50.0, "longest_task_ms": 200.0, "heap_mb": 150.0,
    "tree_paint_ms": 3000.0, "tree_step_ms": 300.0, "tree_task_ms": 200.0, "tree_heap_mb": 150.0,
}  # fmt: skip

WATCH = """() => {
  window.long = []
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) window.long.push([e.startTime, e.duration])
  }).observe({ type: 'longtask', buffered: true })
}"""

PAINT = """() => {
  const painted = performance.getEntriesByName('tokenscope:painted').at(-1)
  const fetched = performance.getEntriesByType('resource')
    .filter((e) => e.name.includes('/columns?')).at(-1)
  return painted && fetched ? painted.startTime - fetched.responseEnd : null
}"""

# From the event's own time stamp to the frame after the card shows the token pointed at.
HOVER = """() => new Promise((resolve) => {
  const tokens = [...document.querySelectorAll('.surface .tk[role=option]')]
    .filter((e) => {
      const b = e.getBoundingClientRect()
      return b.width > 4 && b.top > 120 && b.bottom < innerHeight - 220
    })
  window.hovers = []
  window.targets = tokens.filter((_, i) => i % 7 === 0).slice(0, 30).map((e) => {
    const b = e.getBoundingClientRect()
    return [e.dataset.t, b.left + b.width / 2, b.top + b.height / 2]
  })
  document.querySelector('.surface').addEventListener('pointermove', (e) => {
    const t = e.target.closest('[data-t]')?.dataset.t
    if (t === undefined || window.at === t) return
    window.at = t
    const start = e.timeStamp
    const look = () => {
      const tip = document.querySelector('[role=tooltip]')
      if (!tip?.textContent.includes(`token ${t}`)) return requestAnimationFrame(look)
      requestAnimationFrame(() => window.hovers.push(performance.now() - start))
    }
    queueMicrotask(look)
  }, { capture: true })
  resolve(window.targets)
})"""


def folder_with_model(where: Path) -> Path:
    """A random Llama of two small layers whose context holds the trace; the bundled tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=16_384,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(where)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, where / name)
    return where


def source(size: int) -> str:
    """Real Python of about ``size`` characters."""
    text = ""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_text("utf-8", "replace")
        if len(text) >= size:
            break
    return text[:size]


# How a page talks to the server; jobs answer at once and are asked after until they are over.
SEND = """
  const send = async (method, path, body) => {
    for (;;) {
      const answer = await fetch(`api/${path}`, {method, body: body && JSON.stringify(body),
        headers: {'content-type': 'application/json'}})
      if (answer.status !== 503) return answer.json()
      await new Promise((again) => setTimeout(again, 20))  // all places are taken
    }
  }
  const over = async (job) => {
    if (!job.run) throw new Error(JSON.stringify(job))
    while ((await send('GET', `runs/${job.run}`)).running) {
      await new Promise((again) => setTimeout(again, 20))
    }
    return job
  }
"""


def long_trace(page: Page, tokens: int) -> str:
    """Score code of at least ``tokens`` tokens. Returns the address that shows it."""
    made: dict[str, Any] = page.evaluate(
        "async (text) => {"
        + SEND
        + """
          const session = await send('POST', 'sessions', {title: 'ten thousand'})
          await over(await send('POST', `sessions/${session.id}/score`,
            {text, language: 'python', alternatives: 10}))
          return send('GET', `sessions/${session.id}`)
        }""",
        source(int(tokens * 3.6)),
    )
    node = made["nodes"][0]
    if node["status"] != "done":
        raise SystemExit(f"scoring failed: {node['finish']}")
    return f"#session={made['id']}&node={node['id']}"


def grown(page: Page, branches: int) -> str:
    """A session with so many branches: most leave the root, some leave those."""
    made: dict[str, Any] = page.evaluate(
        "async ([text, branches]) => {"
        + SEND
        + """
          const settings = {max_new_tokens: 24, temperature: 1, alternatives: 5}
          const session = await send('POST', 'sessions', {title: 'many'})
          await over(await send('POST', `sessions/${session.id}/generate`,
            {prompt: text, settings: {...settings, max_new_tokens: 100}}))
          const root = (await send('GET', `sessions/${session.id}`)).nodes[0]
          const first = root.summary.prompt_tokens
          const from = [root]
          let next = 1
          const work = async () => {
            while (next < branches) {
              const i = next++
              const parent = i % 3 ? root : from[Math.floor(from.length * ((i * 0.618) % 1))]
              const at = parent.id === root.id
                ? first + (i * 7) % 90 : Math.min(parent.at + 1 + (i % 9), first + 99)
              await over(await send('POST', `nodes/${parent.id}/fork`,
                {at, token_id: 300 + (i * 37) % 7000, settings: {...settings, seed: i}}))
              if (i % 20 === 0) from.push(...(await send('GET', `sessions/${session.id}`))
                .nodes.filter((n) => n.status === 'done' && n.own_tokens > 12).slice(-20))
            }
          }
          await Promise.all([1, 2, 3, 4].map(work))
          return send('GET', `sessions/${session.id}`)
        }""",
        [source(2000), branches],
    )
    return f"#session={made['id']}&node={made['nodes'][0]['id']}"


def heap(page: Page) -> float:
    """Megabytes that the page's own objects take, after a collection."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("HeapProfiler.collectGarbage")
    return float(cdp.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def arrive(page: Page, address: str) -> float:
    """Open an address as a new visit; ms from the beginning to the frame that shows the code."""
    page.goto("about:blank")
    page.goto(address)
    page.evaluate(WATCH)
    page.wait_for_selector(".surface .tk", timeout=60_000)
    painted = None
    while painted is None:
        page.wait_for_timeout(100)
        painted = page.evaluate(
            "performance.getEntriesByName('tokenscope:painted').at(-1)?.startTime ?? null"
        )
    return float(painted)


# From the key to the frame that shows another branch's code.
STEP = """() => {
  window.steps = []
  addEventListener('keydown', (e) => {
    const start = e.timeStamp
    const before = performance.getEntriesByName('tokenscope:painted').length
    const look = () => {
      if (performance.getEntriesByName('tokenscope:painted').length > before) {
        window.steps.push(performance.now() - start)
      } else requestAnimationFrame(look)
    }
    look()
  }, { capture: true })
}"""


def measure_tree(page: Page, address: str) -> dict[str, float]:
    """All figures of the session with many branches."""
    painted = arrive(page, address)
    page.wait_for_selector("[role=treeitem]")
    page.wait_for_timeout(1000)
    branches = page.evaluate(
        "fetch(`api/sessions/${new URLSearchParams(location.hash.slice(1)).get('session')}`)"
        ".then((r) => r.json()).then((s) => s.nodes.length)"
    )
    begin: float = page.evaluate("performance.now()")
    tree = page.get_by_role("tree")
    box = tree.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 60)
    for _ in range(40):
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(25)
    page.get_by_label("Order of the branches").select_option("turn")
    page.get_by_label("Colour of the branches").select_option("own_surprisal")
    page.wait_for_timeout(200)
    page.get_by_label("Find a branch").press_sequentially("self", delay=60)
    page.wait_for_timeout(300)
    page.get_by_label("Find a branch").fill("")
    page.wait_for_timeout(300)
    tasks = [d for start, d in page.evaluate("window.long") if start >= begin]
    page.evaluate(STEP)
    page.locator('[role=treeitem][tabindex="0"]').focus()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(400)
    steps: list[float] = page.evaluate("window.steps")
    return {
        "branches": branches,
        "tree_paint_ms": round(painted, 1),
        "tree_rows_drawn": page.get_by_role("treeitem").count(),
        "tree_step_ms": round(statistics.median(steps), 1),
        "tree_task_ms": round(max(tasks, default=0.0), 1),
        "tree_heap_mb": round(heap(page), 1),
    }


def measure(page: Page, address: str) -> dict[str, float]:
    """All figures of one visit."""
    arrive(page, address)
    paint = None
    while paint is None:  # not wait_for_function: the page's policy forbids what that does
        page.wait_for_timeout(100)
        paint = page.evaluate(PAINT)
    page.wait_for_timeout(1500)  # the alternatives have come, the page is at rest
    tokens = page.locator("header dl dd").first.inner_text()
    for _, x, y in page.evaluate(HOVER):
        page.mouse.move(x, y)
        page.wait_for_timeout(60)
    hovers: list[float] = page.evaluate("window.hovers")
    page.mouse.move(700, 400)
    begin: float = page.evaluate("performance.now()")
    height: float = page.evaluate("document.querySelector('.surface').scrollHeight")
    steps = 80
    for _ in range(steps):
        page.mouse.wheel(0, height / steps)
        page.wait_for_timeout(25)
    tasks = [d for start, d in page.evaluate("window.long") if start >= begin]
    rows = page.locator(".surface .row").count()
    return {
        "first_paint_ms": round(paint, 1),
        "hover_ms": round(statistics.median(hovers), 1),
        "hover_p95_ms": round(sorted(hovers)[int(len(hovers) * 0.95) - 1], 1),
        "longest_task_ms": round(max(tasks, default=0.0), 1),
        "rows_drawn": rows,
        "heap_mb": round(heap(page), 1),
        "tokens": sum(int(n) for n in "".join(c if c.isdigit() else " " for c in
                      tokens.replace("\u2009", "")).split()),
    }  # fmt: skip


def run(tokens: int, branches: int) -> dict[str, float]:
    """Start a server with a model for the purpose, open a browser, measure, stop both."""
    with tempfile.TemporaryDirectory() as temporary:
        model = folder_with_model(Path(temporary) / "model")
        command = [
            sys.executable, "-m", "tokenscope", "serve", "--json", "--port", "0",
            "--data", f"{temporary}/data", "--model", str(model), "--model-root", temporary,
        ]  # fmt: skip
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said = json.loads(_document(server))
            found = next((p for p in map(shutil.which, CHROMIUM) if p), None)
            options = ["--no-sandbox"] if os.geteuid() == 0 else []
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=found, args=options)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.goto(said["url"])
                page.wait_for_selector(".composer")
                shown, tree = long_trace(page, tokens), grown(page, branches)
                figures = measure(page, f"{said['address']}/{shown}")
                figures |= measure_tree(page, f"{said['address']}/{tree}")
                browser.close()
                return figures
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def _document(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    lines: list[str] = []
    for line in server.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            break
    return "".join(lines)


def main() -> int:
    """Print the figures; 1 if one is above its budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--branches", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = run(options.tokens, options.branches)
    over = [name for name, most in BUDGET.items() if figures[name] > most]
    if options.json:
        print(json.dumps({**figures, "budget": BUDGET, "over": over}, indent=1))
    else:
        for name, value in figures.items():
            budget = f"budget {BUDGET[name]:.0f}" if name in BUDGET else ""
            print(f"{name:>18} {value:>10}  {budget}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
