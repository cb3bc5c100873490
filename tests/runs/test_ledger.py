"""What an edit changes, what it costs, and what it breaks elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenscope import edits as e
from tokenscope.cli import run as command
from tokenscope.errors import InputError
from tokenscope.runs.generate import Settings
from tokenscope.runs.model import Model

TEXT = "def area(r):\n    return 3.14 * r * r\n"
PROMPTS = ["def f(x):\n    return", "import os\nos.", "for i in range("]
QUICK = Settings(max_new_tokens=6, attention="none", alternatives=0)


def test_damage_is_the_kl_of_two_forwards(bundled: Model) -> None:
    ids = bundled.vocabulary.encode(TEXT).ids.tolist()
    module = bundled.backend.model  # type: ignore[attr-defined]

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(module(torch.tensor([ids])).logits[0, :-1].double(), -1)

    own = logits()
    handle = module.model.layers[1].mlp.register_forward_hook(lambda m, a, o: torch.zeros_like(o))
    edited = logits()
    handle.remove()
    found = bundled.damage([e.Ablate("mlp", 1)], TEXT)
    kl = (edited.exp() * (edited - own)).sum(-1).mean()
    assert found.kl == pytest.approx(float(kl), rel=1e-3)
    same = (own.argmax(-1) == edited.argmax(-1)).double().mean()
    assert found.same_top == pytest.approx(float(same), abs=0.05)
    came = torch.tensor(ids[1:])[:, None]
    assert found.nats == pytest.approx(float(-own.gather(1, came).mean()), rel=1e-4)
    assert found.nats_edited == pytest.approx(float(-edited.gather(1, came).mean()), rel=1e-3)
    # a mask alone: KL is the mean of -ln Z, and a text that it forbids costs infinitely much
    banned = torch.tensor([b"r" in p for p in bundled.pieces.pieces])
    kept = torch.logsumexp(own.masked_fill(banned, -torch.inf), -1)
    masked = bundled.damage([e.BanText(("r",))], TEXT)
    assert masked.kl == pytest.approx(float(-kept.mean()), rel=1e-4)
    assert np.isinf(masked.nats_edited)
    both = bundled.damage([e.Regex("x"), e.Attend(0.0, region="comment")], TEXT)
    assert both.left_out == ("regex", "attend") and both.kl == 0


def test_arms_stand_beside_no_edits(bundled: Model) -> None:
    arms = {"ablated": [e.Ablate("layer", 1)], "harmless": [e.BanText(("zebra zebra",))]}
    found = bundled.ledger(PROMPTS, arms, reference=TEXT, settings=QUICK, outcome="bytes")
    frame = found.to_pandas().set_index("arm")
    assert list(frame.index) == ["none", "ablated", "harmless"]
    assert frame.loc["none", "changed"] == 0 and frame.loc["harmless", "changed"] == 0
    assert frame.loc["ablated", "changed"] > 0 and frame.loc["ablated", "kl"] > 0.01
    assert frame.loc["harmless", "kl"] < 1e-3 < frame.loc["ablated", "kl"]
    clean = [bundled.generate(p, max_new_tokens=6) for p in PROMPTS]
    for mine, other in zip(found.traces["none"], clean, strict=True):
        assert mine.ids.tolist() == other.ids.tolist()
    for name, arm in zip(frame.index, found.arms, strict=True):
        prices = [
            float(np.nansum(t.column("price")[t.n_prompt :])) if "price" in t.columns else 0.0
            for t in found.traces[name]
        ]
        assert arm.means["price"].mean == pytest.approx(np.mean(prices))
        gap = arm.values["tokens"].mean(1) - found.arms[0].values["tokens"].mean(1)
        assert arm.against["tokens"].mean == pytest.approx(gap.mean())
        assert sum(n for _, n in arm.outcomes) == len(PROMPTS)
    told = found.to_json()
    assert json.dumps(told, allow_nan=False)
    assert told["arms"][1]["edits"][0]["kind"] == "ablate"
    assert "ablated" in found.html() and "<script" not in found.html()


def test_draws_share_their_seeds(bundled: Model) -> None:
    hot = Settings(max_new_tokens=5, temperature=1.0, attention="none", alternatives=0)
    arms = {"same": [e.Bias((5,), 0.0)]}
    found = bundled.ledger(PROMPTS[:2], arms, settings=hot, draws=3, outcome="bytes")
    assert found.arms[1].means["changed"].mean == 0
    assert found.arms[1].values["tokens"].shape == (2, 3)
    assert len({t.text for t in found.traces["none"]}) > 2
    for bad in ({"draws": 2}, {"arms": {}}, {"arms": {"none": []}}, {"prompts": []}):
        asked = {"prompts": PROMPTS, "arms": arms, "settings": QUICK, **bad}
        with pytest.raises(InputError):
            bundled.ledger(**asked)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text('def f(x):\n"def g(a):\\n    return"\n')
    (tmp_path / "ban.toml").write_text('[[edit]]\nkind = "ban_text"\nstrings = ["return"]\n')
    asked = ["ledger", str(tmp_path / "p.txt"), "--arm", f"ban={tmp_path / 'ban.toml'}", "-n", "4"]
    page = tmp_path / "l.html"
    assert command([*asked, "--json", "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in told["arms"]] == ["none", "ban"] and told["prompts"] == 2
    assert page.read_text().startswith("<!")
    assert command([*asked, "--arm", "bad", "--json"]) == 2
    (tmp_path / "ban.toml").write_text("[[edit]]\nkind = 'secret'\nstrings = [1]\n")
    assert command([*asked, "--json"]) == 2
