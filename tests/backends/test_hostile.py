"""A fast sample of the hostile folders; ``bench/hostile_models.py`` tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.hostile import CASES, build, good
from tokenscope.errors import ModelError
from tokenscope.runs.model import load

# Name, and what the error must say (file and key); None: it loads, and what was wrong is noted.
SAMPLE = {
    "config.json: num_hidden_layers = 0": r"config\.json: num_hidden_layers",
    "config.json: num_hidden_layers = 2000": r"num_hidden_layers: is 2000, .* hold 2 layers",
    "config.json: num_hidden_layers = 1000000000": r"num_hidden_layers",
    "config.json: hidden_size = 1000000000": r"tensor .* config\.json asks for",
    "config.json: vocab_size = 9223372036854775808": r"vocab_size: .* out of range",
    "config.json: num_labels = 1000000000": r"config\.json: num_labels",
    "config: experts without end": r"num_local_experts: is 1000000000",
    "config: a mask of 10^12": r"config\.json",
    "config.json: nested": r"config\.json: is no JSON",
    "weights: bytes": r"is stored as U8",
    "weights: empty": r"has shape \[0\]",
    "header: overlap": r"overlaps another|leaves a hole",
    "tokenizer: id 2147483648": r"tokenizer\.json: model\.vocab: token 'zz' has id 2147483648",
    "tokenizer: added id -1": r"added_tokens\[0\]: id '-1'",
    "tokenizer: colliding ids": r"model\.vocab: tokens .* share id 100",
    "tokenizer: chain of normalisers": r"normalizer: its replacements can make",
    "tokenizer: normaliser that puts much before": r"tokenizer\.json: (normalizer|pre_tokenizer|m)",
    "tokenizer: pads to 10^9": r"tokenizer\.json",
    "tokenizer: template with a wild id": r"tokenizer\.json: post_processor",
    "tokenizer: dropout": r"model\.dropout",
    "tokenizer_config.json: eos_token = 5": r"tokenizer_config\.json: eos_token: '5'",
    "generation_config.json: eos_token_id = 1000000000000": None,
    "template: writes 10 MB": None,
    "template: counts": None,
    "config.json links to itself": r"config\.json: is a link that leads nowhere",
    "tokenizer.json is a pipe": r"tokenizer\.json: is missing",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("hostile") / "good")


@pytest.mark.parametrize("name", list(SAMPLE))
def test_refused_by_name_or_harmless(name: str, base: Path, tmp_path: Path) -> None:
    folder = build(name, base, tmp_path / "m")
    cause = SAMPLE[name]
    if cause is not None:
        with pytest.raises(ModelError, match=cause):
            load(folder)
        return
    model = load(folder)
    model.generate("def f(a):", max_new_tokens=1)
    if name.startswith("template: writes"):
        assert any("no chat" in note for note in model.info.notes)


def test_there_are_many() -> None:
    assert len(CASES) >= 350
