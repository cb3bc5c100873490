"""Writes the model card from the corpus, the checkpoint and the measured figures."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from training import corpus
from training.export import BUNDLED
from training.recipe import Recipe
from training.train import RUNS

TEMPLATE = Path(__file__).parent / "card.md"
FIRST_LEG = 101 * 60.0  # seconds that the weights which the second leg began with had taken


def licence_table(train: list[corpus.Document], heldout: list[corpus.Document]) -> str:
    """A Markdown table: package, licence, files, bytes."""
    files: dict[str, list[int]] = defaultdict(list)
    licences: dict[str, str] = {}
    for doc in train:
        files[doc.package].append(len(doc.text.encode()))
        licences[doc.package] = doc.license
    held: dict[str, int] = defaultdict(int)
    for doc in heldout:
        held[doc.package] += len(doc.text.encode())
        licences.setdefault(doc.package, doc.license)
    rows = ["| package | licence | files | bytes | held-out bytes |", "|---|---|---:|---:|---:|"]
    for name in sorted(licences, key=lambda n: -sum(files[n])):
        label = "Python standard library" if name == "stdlib" else name
        rows.append(
            f"| {label} | {licences[name]} | {len(files[name])} | {sum(files[name]):,} "
            f"| {held[name]:,} |"
        )
    total, kept = sum(map(sum, files.values())), sum(held.values())
    rows.append(f"| **all** | | {len(train)} | {total:,} | {kept:,} |")
    return "\n".join(rows)


def fill(template: str, values: dict[str, Any]) -> str:
    """The template with every `{{name}}` replaced."""
    for name, value in values.items():
        template = template.replace("{{" + name + "}}", str(value))
    return template


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="cpu", help="run folder under training/runs")
    parser.add_argument("--figures", type=Path, required=True, help="output of evaluate --json")
    parser.add_argument("--out", type=Path, default=BUNDLED / "README.md")
    args = parser.parse_args()
    folder = RUNS / args.name
    state = torch.load(folder / "last.pt", weights_only=False)
    recipe = Recipe(**state["recipe"])
    tokens, steps, seconds = state["counts"]
    figures: dict[str, Any] = json.loads(args.figures.read_text())
    train = corpus.load(folder / "corpus" / "train.jsonl")
    heldout = corpus.load(folder / "corpus" / "heldout.jsonl")
    values = {
        **figures,
        **{name: getattr(recipe, name) for name in Recipe.__slots__},
        "parameters": f"{figures['parameters']:,}",
        "heldout_bytes": f"{figures['heldout_bytes']:,}",
        "parse_percent": f"{100 * figures['parse_share']:.1f}",
        "ended_percent": f"{100 * figures['ended_share']:.1f}",
        "tokens_seen": f"{tokens:,}",
        "steps": f"{steps:,}",
        "minutes": round(seconds / 60),
        "hours": f"{(seconds + FIRST_LEG) / 3600:.0f}",
        "tokens": f"{recipe.tokens:,}",
        "decay_percent": round(100 * recipe.decay),
        "lengths_text": ", ".join(f"{n} from {100 * s:.0f} %" for s, n in recipe.lengths),
        "table": licence_table(train, heldout),
    }
    args.out.write_text(fill(TEMPLATE.read_text(), values))


if __name__ == "__main__":
    main()
