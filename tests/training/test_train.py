"""Network, schedule, checkpoints and export, on a toy of a few thousand parameters."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.batches import Rows, TokenStore
from training.corpus import Document
from training.evaluate import cut_at_dedent, functions, nats, parses, windows
from training.export import BUNDLED, export, rounding_error, to_transformers
from training.network import Network
from training.recipe import RECIPES, Recipe
from training.train import Run

TOKENIZER = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
TEXT = "def f(x):\n    if x:\n        return 1\n    return 2\n\n\ndef g():\n    pass\n"
TOY = dataclasses.replace(
    RECIPES["cpu"], hidden=32, layers=2, inner=48, heads=4, kv_heads=2,
    tokens=128 * 8, decay=0.3, batch_tokens=128, lengths=((0.0, 32), (0.5, 64)),
)  # fmt: skip


def run(recipe: Recipe = TOY) -> Run:
    store = TokenStore.encode(TOKENIZER, [f"# file {i}\n" + TEXT * (2 + i) for i in range(8)])
    return Run(recipe, Rows(store, TOKENIZER, recipe.seed, lanes=4), "cpu", compiled=False)


def test_the_network_is_transformers_llama() -> None:
    torch.manual_seed(0)
    network = Network(TOY.config())
    ids = torch.randint(0, 8192, (2, 70))
    twin = to_transformers(network)
    logits = network.hidden(ids) @ network.model.embed_tokens.weight.T
    assert torch.allclose(twin(ids).logits, logits, atol=1e-5)
    loss = network.loss(network.hidden(ids[:, :-1]), ids[:, 1:])
    assert loss.item() == pytest.approx(twin(ids, labels=ids).loss.item(), abs=1e-5)


def test_the_loss_by_blocks_has_the_right_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.BLOCK", 16)
    torch.manual_seed(0)
    network = Network(TOY.config())
    ids = torch.randint(0, 8192, (2, 30))
    network.loss(network.hidden(ids[:, :-1]), ids[:, 1:]).backward()
    mine = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    logits = network.hidden(ids[:, :-1]) @ network.model.embed_tokens.weight.T
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None
        assert torch.allclose(mine[name], p.grad, atol=1e-6), name


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run()
    losses = [whole.step() for _ in range(6)]
    first = run()
    begun = [first.step() for _ in range(3)]
    first.save(tmp_path / "last.pt")
    second = run()
    second.restore(torch.load(tmp_path / "last.pt", weights_only=False))
    assert begun + [second.step() for _ in range(3)] == losses
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_rate_warms_up_stays_and_decays() -> None:
    rates = [TOY.rate(i / 1000) for i in range(1001)]
    assert rates[0] < 0.1
    assert rates[1000] == 0
    assert rates[300] == rates[600] == 1
    assert rates[700:] == sorted(rates[700:], reverse=True)


def test_rows_grow_longer_to_the_full_context() -> None:
    for recipe in RECIPES.values():
        assert recipe.length(0) < recipe.length(0.99) == 2048


@pytest.mark.parametrize(("name", "low", "high"), [("cpu", 5e6, 10e6), ("cuda", 20e6, 24e6)])
def test_the_recipes_have_the_promised_sizes(name: str, low: float, high: float) -> None:
    with torch.device("meta"):
        size = sum(p.numel() for p in Network(RECIPES[name].config()).parameters())
    assert low <= size <= high


def test_an_exported_model_loads_and_says_the_same(tmp_path: Path) -> None:
    trained = run()
    trained.step()
    dtype = export(trained.model, TOKENIZER, tmp_path)
    other = ({torch.float16, torch.bfloat16} - {dtype}).pop()
    assert rounding_error(trained.model, dtype) <= rounding_error(trained.model, other)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(tmp_path)
    ids = words(TEXT, return_tensors="pt", add_special_tokens=False).input_ids
    assert words.decode(ids[0]) == TEXT
    exact = to_transformers(trained.model)
    assert torch.allclose(loaded(ids).logits, exact(ids).logits, atol=0.02)
    assert nats(loaded, ids[0].tolist(), 0) == pytest.approx(
        nats(exact, ids[0].tolist(), 0), rel=1e-3
    )


@pytest.mark.parametrize("length", [2, 10, 16, 17, 24, 25, 40, 100])
def test_windows_score_every_target_once(length: int) -> None:
    scored = [t for _, first, end in windows(length, 16) for t in range(first, end)]
    assert scored == list(range(1, length))
    assert all(end - start <= 16 for start, _, end in windows(length, 16))


def test_a_body_is_cut_at_its_dedent() -> None:
    assert cut_at_dedent("    a = 1\n\n    return a\n\n\ndef g", 0) == (
        "    a = 1\n\n    return a\n\n\n",
        True,
    )
    assert cut_at_dedent("    a = 1\n    b = ", 0) == ("    a = 1\n", False)


def test_held_out_functions_are_cut_after_their_docstring() -> None:
    head = 'class A:\n    def f(self):\n        """Doc."""\n'
    text = head + "        a = 1\n        b = 2\n        return a\n"
    (function,) = functions(Document("stdlib", "a.py", "MIT", text))
    assert function.prompt == head
    assert function.indent == 4
    assert parses(function, "        return self\n")
    assert not parses(function, "        return (\n")
    assert not parses(function, "\n")


def test_a_second_leg_begins_with_published_weights_and_warms_up_again(tmp_path: Path) -> None:
    first = run()
    first.step()
    export(first.model, TOKENIZER, tmp_path)
    longer = dataclasses.replace(TOY, tokens=128 * 20, begun=0.3, warmup=0.1)
    second = run(longer)
    second.begin_with(tmp_path)
    assert second.done == pytest.approx(0.3)
    for old, new in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(old, new, atol=2e-3)  # they were stored in 16 bits
    assert longer.rate(0.3) < 0.1
    assert longer.rate(0.45) == 1
    with pytest.raises(ValueError, match="another shape"):
        run(dataclasses.replace(longer, layers=3)).begin_with(tmp_path)
