"""Writes a checkpoint as a model folder that transformers and TokenScope load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaForCausalLM

from training.network import Network
from training.recipe import RECIPES, Recipe
from training.tokenizer import wrap
from training.train import RUNS

BUNDLED = Path(__file__).parent.parent / "src" / "tokenscope" / "models" / "bundled"
DTYPES = (torch.float16, torch.bfloat16)


def to_transformers(network: Network) -> LlamaForCausalLM:
    """The same weights as transformers' own model, in float32."""
    model = LlamaForCausalLM(network.config)
    missing, unexpected = model.load_state_dict(network.state_dict(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"the shapes do not match: {missing} {unexpected}")
    model.tie_weights()
    return model.eval()


def rounding_error(network: Network, dtype: torch.dtype) -> float:
    """Root-mean-square relative error that storing the weights in a 16-bit type brings."""
    errors: list[float] = [
        ((p - p.to(dtype).float()).norm() / p.norm().clamp_min(1e-12)).item()
        for p in network.state_dict().values()
    ]
    return sum(errors) / len(errors)


def export(network: Network, tokenizer: Tokenizer, folder: Path) -> torch.dtype:
    """Writes weights, configuration and tokenizer; returns the 16-bit type that loses less."""
    dtype = min(DTYPES, key=lambda d: rounding_error(network, d))
    model = to_transformers(network).to(dtype)
    model.config.dtype = dtype
    model.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=0, pad_token_id=0, max_new_tokens=64
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrap(tokenizer).save_pretrained(folder)
    return dtype


def network_of(state: dict[str, Any]) -> Network:
    """The network of a checkpoint."""
    network = Network(Recipe(**state["recipe"]).config())
    network.load_state_dict(state["model"])
    return network


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="cpu", help="run folder under training/runs")
    parser.add_argument("--checkpoint", default="last.pt")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--random", action="store_true", help="untrained weights of the shape")
    args = parser.parse_args()
    folder = RUNS / args.name
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if args.random:
        torch.manual_seed(0)
        network = Network(RECIPES["cpu"].config())
    else:
        network = network_of(torch.load(folder / args.checkpoint, weights_only=False))
    dtype = export(network, tokenizer, args.out)
    size = sum(f.stat().st_size for f in args.out.glob("*.safetensors"))
    print(f"{args.out}: {dtype}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
