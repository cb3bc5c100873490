"""``tokenscope patch``, ``ablate``, ``lens`` and ``heads``: interventions from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, result, say, table
from tokenscope.cli.pace import Pace
from tokenscope.cli.texts import token_of
from tokenscope.control import Control
from tokenscope.errors import InputError, UnknownName

if TYPE_CHECKING:
    import pandas as pd

PromptArgument = Annotated[str, typer.Argument(metavar="PROMPT", help="The text, as it is.")]
TokenOption = Annotated[
    str | None, typer.Option("--token", help="A: text or #id. Default: the model's favourite.")
]
ContrastOption = Annotated[str | None, typer.Option("--contrast", help="B: text or #id.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="Rows to show.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Where lenses are kept. Default: your data folder.")
]


@opens_a_model
def patch(
    clean: Annotated[str, typer.Argument(metavar="CLEAN", help="The prompt, as it is.")],
    corrupt: Annotated[
        str | None, typer.Option("--corrupt", help="The prompt that differs from it.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Instead: blur this part with noise.")
    ] = None,
    token: TokenOption = None,
    contrast: ContrastOption = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="residual, attention, mlp, heads (repeat).")
    ] = None,
    noising: Annotated[
        bool, typer.Option("--noising", help="Patch the clean run with the corrupt one.")
    ] = False,
    ends: Annotated[
        bool, typer.Option("--ends", help="Unequal lengths: pair the common start and end.")
    ] = False,
    draws: Annotated[int, typer.Option("--draws", help="Of the noise.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    top: TopOption = 20,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Show where in the model the difference between two prompts is carried."""
    from tokenscope.explain.patching import PARTS
    from tokenscope.runs.patch import PatchJob, TraceJob

    if (corrupt is None) == (subject is None):
        raise InputError("corrupt", "exactly one of --corrupt and --subject is needed")
    for name in part or ():
        PARTS.get(name)
    engine = wanted.load()
    options: dict[str, Any] = {"token": token_of(token), "contrast": token_of(contrast)}
    options["control"] = Control(Pace().told)
    if part:
        options["parts"] = part
    job: PatchJob | TraceJob
    if corrupt is not None:
        options |= {"noising": noising, "aligned": "ends" if ends else None}
        job = PatchJob(engine, clean, corrupt, **options)
    else:
        job = TraceJob(engine, clean, subject or "", draws=draws, seed=seed, **options)
    say(f"cost: {job.cost}")
    made = job.run()
    if as_json:
        document(made.to_json())
        return 0
    result(f"A = {made.token!r}, B = {made.contrast!r}")
    _print(made.to_pandas(), "effect", top)
    return 0


@opens_a_model
def ablate(
    prompt: PromptArgument,
    reference: Annotated[
        list[Path] | None, typer.Option("--reference", help="A text to average over (repeat).")
    ] = None,
    how: Annotated[
        str | None, typer.Option("--how", help="zero, own_mean, mean or resample.")
    ] = None,
    per: Annotated[str, typer.Option("--per", help="overall or position.")] = "overall",
    paths: Annotated[
        int, typer.Option("--paths", help="Instead: direct effects among so many heads.")
    ] = 0,
    token: TokenOption = None,
    contrast: ContrastOption = None,
    draws: Annotated[int, typer.Option("--draws", help="Of resample.")] = 8,
    top: TopOption = 20,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Take out every head and MLP, one at a time, and show what the choice loses."""
    from tokenscope.explain.references import HOWS
    from tokenscope.runs.replace import ReplaceJob, path_effects

    if how is not None and how not in HOWS:
        raise UnknownName("--how", how, HOWS)
    if per not in ("overall", "position"):
        raise UnknownName("--per", per, ("overall", "position"))
    options: dict[str, Any] = {
        "token": token_of(token), "contrast": token_of(contrast), "how": how, "per": per,
        "reference": [read_text(p, "reference") for p in reference or ()],
        "control": Control(Pace().told),
    }  # fmt: skip
    engine = wanted.load()
    if paths:
        made = path_effects(engine, prompt, top=paths, **options)
    else:
        job = ReplaceJob(engine, prompt, draws=draws, **options)
        say(f"cost: {job.cost}")
        made = job.run()
    if as_json:
        document(made.to_json())
        return 0
    result(f"A = {made.token!r}, B = {made.contrast!r}, f = {made.value:.4f} nats")
    result(made.note)
    _print(made.to_pandas(), "effect", top)
    return 0


@opens_a_model
def lens(
    action: Annotated[Literal["show", "fit"], typer.Argument(help="show or fit.")],
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="show: a text; fit: a file.")],
    steps: Annotated[int, typer.Option("--steps", help="Of the fit.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Of the fit.")] = 0,
    data: DataOption = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Show what every layer would say at every token, or fit a tuned lens to a file."""
    from tokenscope.runs.kept_lens import lens_path
    from tokenscope.runs.lens import fit_lens, lenses

    path = Path(text)
    source = read_text(path, "FILE") if action == "fit" else ""
    engine = wanted.load()
    control = Control(Pace().told)
    if action == "fit":
        made = fit_lens(engine, source, steps, seed, data, source=path.name, control=control)
        rows = [
            {"layer": i, "logit_kl": float(a), "tuned_kl": float(b)}
            for i, (a, b) in enumerate(zip(made.logit_kl, made.tuned_kl, strict=True))
        ]
        where = str(lens_path(engine, data))
        if as_json:
            document({
                "file": where, "fitted": made.fitted, "held_out": made.held_out,
                "steps": made.steps, "layers": rows,
            })  # fmt: skip
        else:
            say(f"kept in {where}")
            print(f"KL(model || lens) in nats on {made.held_out} held-out positions:")
            for row in rows:
                print("layer {layer}: logit {logit_kl:.3f}  tuned {tuned_kl:.3f}".format(**row))
        return 0
    found = lenses(engine, text, True, data, control)
    if as_json:
        document(found.to_json())
        return 0
    frame = found.to_pandas()
    name = "tuned" if found.tuned is not None else "logit"
    shown = frame[frame["lens"] == name].pivot(index="layer", columns="index", values="top")
    shown.columns = [f"{t}:{found.trace.tokens[int(t)].text!r}" for t in shown.columns]
    print(f"likeliest token by layer ({name} lens):")
    table(shown.reset_index())
    return 0


@opens_a_model
def heads(
    length: Annotated[int, typer.Option("--length", help="Tokens of one copy.")] = 50,
    draws: Annotated[int, typer.Option("--draws", help="Random sequences.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of the random sequences.")] = 0,
    top: TopOption = 12,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Score every head on random tokens said twice: induction, previous and duplicate token."""
    from tokenscope.runs.heads import repeated
    from tokenscope.runs.prompts import meanings

    engine = wanted.load()
    made = repeated(engine, length, draws, seed, Control(Pace().told))
    frame = made.to_pandas()
    if as_json:
        document({
            "length": length, "draws": draws, "seed": seed,
            "gain": [float(g) for g in made.gain],
            "heads": frame.to_dict(orient="records"), "definitions": meanings(list(made.scores)),
        })  # fmt: skip
        return 0
    print(f"the second copy is easier by {made.gain.mean():.2f} nats a token")
    _print(frame, "mean", top)
    return 0


def read_text(path: Path, field: str) -> str:
    """A text file. Raises InputError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(field, "is no text file that can be read") from None


def _print(frame: pd.DataFrame, by: str, top: int) -> None:
    if frame.empty:
        print("nothing to show")
        return
    order = frame[by].abs().sort_values(ascending=False).index
    table(frame.reindex(order).head(top))
