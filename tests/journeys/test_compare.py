"""One text under two models, down to a token that flips; the experts that a mixture asks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

from tests.journeys.conftest import Server
from tests.journeys.waiting import ENDED, node
from tokenscope.backends.hf.load import BUNDLED

PROMPT = "def total(items):\n    n = 0\n    for x in items:\n        n += x\n    return"
WIDTH = 32


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A second model is loaded."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """Two layers of four experts over the bundled model's tokens, weights at random."""
    folder = tmp_path / "mixture"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, folder)
    held = json.loads((BUNDLED / "config.json").read_text())
    ends = {n: held[n] for n in ("vocab_size", "bos_token_id", "eos_token_id") if n in held}
    config = {
        **ends, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
        "hidden_size": WIDTH, "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 2, "intermediate_size": 48, "moe_intermediate_size": 24,
        "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True, "mlp_only_layers": [],
        "decoder_sparse_step": 1, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": False, "dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = held["vocab_size"]
    shapes = {
        "model.embed_tokens": (words, WIDTH),
        "lm_head": (words, WIDTH),
        "model.norm": (WIDTH,),
    }
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {f"{layer}.{n}_layernorm": (WIDTH,) for n in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{n}_norm": (16,) for n in "qk"}
        shapes |= {f"{layer}.self_attn.{n}_proj": (16, WIDTH) for n in "kv"}
        shapes |= {f"{layer}.self_attn.{n}_proj": (WIDTH, WIDTH) for n in "qo"}
        shapes |= {f"{layer}.mlp.gate": (4, WIDTH)}
        for expert in range(4):
            at = f"{layer}.mlp.experts.{expert}"
            shapes |= {f"{at}.{n}_proj": (24, WIDTH) for n in ("gate", "up")}
            shapes |= {f"{at}.down_proj": (WIDTH, 24)}
    random = np.random.default_rng(0)
    tensors = {
        f"{name}.weight": np.ones(shape, np.float32) if len(shape) == 1
        else (0.3 * random.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }  # fmt: skip
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def generate(page: Page, tokens: int) -> str:
    """The prompt, decoded to its end. Returns its branch."""
    editor = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(editor).to_be_visible()
    page.get_by_role("textbox", name="Length").fill(str(tokens))
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(PROMPT)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("listbox", name="The code, token by token")).to_be_visible()
    expect(page.locator(ENDED)).to_be_visible()
    return node(page)


def test_a_text_under_two_models_and_the_experts_of_one(
    open_page: Callable[..., Page], serve: Callable[..., Server], mixture: Path,
    axe: Callable[..., list[str]],
) -> None:  # fmt: skip
    server = serve("bundled", str(mixture))
    page = open_page(server.url)
    made = generate(page, 12)
    # only where a model has experts
    page.locator(".tk[role=option]").nth(5).click()
    token = page.get_by_role("complementary", name="Token")
    expect(token).to_contain_text("What did it look at?")
    expect(token.get_by_role("region", name="Which experts did it ask?")).to_have_count(0)

    page.keyboard.press("z")
    page.get_by_role("button", name=re.compile("^mixture")).click()
    numbers = page.get_by_role("complementary", name="Two models in numbers")
    expect(numbers).to_contain_text("lower bound")
    page.get_by_role("switch", name="Exact").click()
    expect(numbers).to_contain_text("whole distributions")
    # the figures are the server's, which tests/explore holds against forwards made by hand
    api, session = page.context.request, re.search(r"session=(\w+)", page.url)
    assert session is not None
    held = api.get(f"{server.address}/api/sessions/{session.group(1)}").json()["nodes"]
    (other,) = [n for n in held if n["form"] == "score"]
    assert other["title"] == "read by mixture float32"
    moved = api.get(f"{server.address}/api/nodes/{made}/drift/{other['id']}?exact=true").json()
    assert moved["exact"] and moved["flips"] and moved["kl_mean"] > 0
    flips, first = moved["flips"], moved["flips"][0]["t"]
    expect(numbers).to_contain_text(f"{len(flips)} of {moved['places']} places flip")
    expect(numbers.locator(".flips button")).to_have_count(len(flips))
    numbers.locator(".flips button").first.click()
    expect(page).to_have_url(re.compile(f"token={first}(&|$)"))
    beside = page.get_by_role("region", name="The token under both models")
    expect(beside).to_contain_text("chooses otherwise")
    # the difference colours the code; a column of one side does, too
    flipped = page.locator(f".tk[data-t='{first}']").first
    before = flipped.evaluate("e => getComputedStyle(e).backgroundColor")
    page.get_by_role("group", name="Colour by").get_by_role("button", name="B", exact=True).click()
    expect(flipped).not_to_have_css("background-color", before)
    for theme in ("light", "dark"):
        page.evaluate("t => { document.documentElement.dataset.theme = t }", theme)
        assert axe(page) == []
    # it is a branch of the session, and read once; the tree is kept as a drawing
    tree = page.get_by_role("tree")
    expect(tree.get_by_text("read by mixture")).to_have_count(1)
    page.reload()
    page.get_by_role("button", name=re.compile("^mixture")).click()
    expect(numbers).to_contain_text("lower bound")
    expect(tree.get_by_text("read by mixture")).to_have_count(1)
    with page.expect_download() as kept:
        page.get_by_role("button", name="Save this tree").click()
        page.get_by_role("menuitem", name="Drawing (SVG)").click()
    assert "read by mixture" in Path(kept.value.path()).read_text()

    # what the other model writes: whom each layer asked
    page.get_by_role("banner").get_by_title("What is loaded").click()
    page.get_by_role("list", name="Models").get_by_role("button", name="mixture").click()
    expect(page.get_by_role("banner").get_by_title("What is loaded")).to_contain_text("mixture")
    page.keyboard.press("s")
    page.get_by_role("button", name="New prompt").first.click()
    other = generate(page, 4)
    page.locator(".tk[role=option]:not(.prompt)").nth(1).click()
    asked = token.get_by_role("region", name="Which experts did it ask?")
    asked.get_by_role("switch", name="Show").click()
    rows = asked.get_by_role("button", name=re.compile("^Layer "))
    expect(rows).to_have_count(2)
    at = re.search(r"token=(\d+)", page.url)
    assert at is not None
    said = api.get(f"{server.address}/api/nodes/{other}/experts/{at.group(1)}").json()
    for row, layer in zip(rows.all(), said, strict=True):
        ids = " ".join(str(e["expert"]) for e in layer["experts"] if e["chosen"])
        expect(row).to_have_accessible_name(re.compile(f"asked {ids} "))
    rows.last.click()
    expect(asked.get_by_role("table").get_by_role("row")).to_have_count(5)
    assert axe(page) == []
