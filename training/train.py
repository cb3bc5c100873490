"""Makes corpus, tokenizer and weights: `python -m training.train`.

Every stage is kept in the run folder, so a second call continues where the first one stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training import corpus
from training.batches import Rows, TokenStore
from training.network import Network
from training.optimiser import make_optimisers
from training.recipe import RECIPES, Recipe
from training.tokenizer import train_tokenizer

RUNS = Path(__file__).parent / "runs"


class Run:
    """Model, optimisers and data stream of one training run."""

    def __init__(self, recipe: Recipe, rows: Rows, device: str, compiled: bool = True) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.rows, self.device = recipe, rows, device
        self.model = Network(recipe.config()).to(device)
        self.optimisers = make_optimisers(self.model, recipe.muon_lr, recipe.adam_lr)
        self.peaks = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.tokens, self.steps, self.seconds = 0, 0, 0.0
        self.half = device == "cuda" or torch.cpu._is_amx_tile_supported()
        if compiled:
            for layer in self.model.model.layers:
                layer.compile()

    @property
    def done(self) -> float:
        """Share of the planned tokens that was seen."""
        return self.tokens / self.recipe.tokens

    def step(self) -> float:
        """One batch and one update; returns the loss in nats a token."""
        began = time.monotonic()
        length = self.recipe.length(self.done)
        rows = max(1, self.recipe.batch_tokens // length)
        ids = torch.from_numpy(self.rows.batch(rows, length)).to(self.device)
        part = rows if self.device == "cuda" else max(1, min(rows, 4096 // length))
        total = 0.0
        for start in range(0, rows, part):
            block = ids[start : start + part]
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                states = self.model.hidden(block[:, :-1].contiguous())
            if self.half:
                states = states.bfloat16()
            loss = self.model.loss(states, block[:, 1:]) * (len(block) / rows)
            loss.backward()
            total += loss.item()
        factor = self.recipe.rate(self.done)
        for optimiser, peaks in zip(self.optimisers, self.peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.tokens += rows * length
        self.steps += 1
        self.seconds += time.monotonic() - began
        return total

    def state(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return {
            "model": self.model.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "rows": self.rows.state(),
            "recipe": dataclasses.asdict(self.recipe),
            "counts": (self.tokens, self.steps, self.seconds),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.rows.restore(state["rows"])
        self.tokens, self.steps, self.seconds = state["counts"]

    def begin_with(self, folder: Path) -> None:
        """Takes the weights of a published folder, not its optimisers, which are not published."""
        weights = load_file(folder / "model.safetensors")
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if missing or set(unexpected) - {"lm_head.weight"}:
            raise ValueError(f"{folder} has another shape: {missing} {unexpected}")
        self.tokens = round(self.recipe.begun * self.recipe.tokens)

    def save(self, path: Path) -> None:
        """Writes a checkpoint; a broken write never replaces a good one."""
        part = path.with_suffix(".part")
        torch.save(self.state(), part)
        part.replace(path)


def prepare(folder: Path, recipe: Recipe, say: Callable[[str], None]) -> Rows:
    """Corpus, tokenizer and token store, made once and then read back."""
    data = folder / "corpus"
    tokenizer_path, store_path = folder / "tokenizer.json", folder / "tokens.npz"
    if not store_path.exists():
        documents = corpus.build(data, recipe.cap, say)
        if not tokenizer_path.exists():
            train_tokenizer(d.text for d in documents).save(str(tokenizer_path))
            say("tokenizer trained")
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
        TokenStore.encode(tokenizer, [d.text for d in documents]).save(store_path)
    store = TokenStore.load(store_path)
    say(f"{len(store)} documents, {len(store.ids):,} tokens")
    return Rows(store, Tokenizer.from_file(str(tokenizer_path)), recipe.seed)


def loop(run: Run, folder: Path, save_every: float, say: Callable[[str], None]) -> None:
    """Trains to the end of the plan; a TERM signal saves and stops."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    saved, smooth, stable = time.monotonic(), 0.0, folder / "stable.pt"
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task("training", total=run.recipe.tokens, completed=run.tokens)
        while run.done < 1 and not stopped:
            if not stable.exists() and run.done >= 1 - run.recipe.decay:
                run.save(stable)
            loss = run.step()
            smooth = loss if not smooth else 0.95 * smooth + 0.05 * loss
            speed = (run.tokens - run.recipe.begun * run.recipe.tokens) / run.seconds
            text = f"loss {smooth:.3f}  {speed:,.0f} tokens/s"
            bar.update(task, completed=run.tokens, description=text)
            if run.steps % 10 == 0 or run.steps < 4:
                rate = run.recipe.rate(run.done)
                say(
                    f"step {run.steps} tokens {run.tokens:,} ({run.done:.1%}) loss {loss:.4f} "
                    f"smooth {smooth:.4f} rate {rate:.3f} {speed:.0f} tok/s {run.seconds:.0f} s"
                )
            if time.monotonic() - saved > save_every:
                run.save(folder / "last.pt")
                saved = time.monotonic()
    run.save(folder / "last.pt")
    say("stopped" if stopped else "finished")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=["auto", *RECIPES], default="auto")
    parser.add_argument("--name", help="run folder under training/runs (default: the recipe)")
    parser.add_argument("--tokens", type=int, help="another length of the plan")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    parser.add_argument("--decay-now", type=int, metavar="TOKENS", help="end TOKENS from here")
    parser.add_argument("--begin-with", type=Path, metavar="FOLDER", help="its weights, not anew")
    parser.add_argument("--seen", type=int, default=0, help="tokens those weights have seen")
    parser.add_argument("--prepare-only", action="store_true", help="corpus and tokenizer only")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    recipe_name = ("cuda" if cuda else "cpu") if args.recipe == "auto" else args.recipe
    recipe = RECIPES[recipe_name]
    if args.tokens:
        recipe = dataclasses.replace(recipe, tokens=args.tokens)
    if args.begin_with:  # other rows than those of its first leg
        begun = args.seen / recipe.tokens
        recipe = dataclasses.replace(recipe, begun=begun, seed=recipe.seed + 1)
    folder = RUNS / (args.name or recipe_name)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    (RUNS / "pid").write_text(str(os.getpid()))

    def say(text: str) -> None:
        with (folder / "log.txt").open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        if not sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    rows = prepare(folder, recipe, say)
    if args.prepare_only:
        return
    last = folder / "last.pt"
    state = torch.load(last, weights_only=False) if last.exists() else None
    if state and (args.begin_with or not args.tokens):
        recipe = Recipe(**state["recipe"])
    if args.decay_now and state:
        total = state["counts"][0] + args.decay_now
        share = args.decay_now / total
        recipe = dataclasses.replace(recipe, tokens=total, decay=share)
    run = Run(recipe, rows, "cuda" if cuda else "cpu")
    if state:
        run.restore(state)
    elif args.begin_with:
        run.begin_with(args.begin_with)
    loop(run, folder, args.save_every, say)


if __name__ == "__main__":
    main()
