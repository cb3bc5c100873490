"""``tokenscope audit``: prompts or code against a policy; ``tokenscope rules``: measure packs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, table
from tokenscope.errors import InputError


@opens_a_model
def audit(
    prompts: Annotated[
        Path, typer.Argument(
            metavar="PROMPTS", help="JSONL, CSV or a folder of prompts; or code: a file, a folder, "
            "- for stdin.",
        ),
    ] = Path("."),
    policy: Annotated[Path | None, typer.Option("--policy", help="A TOML file with gates.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the journal and the reports.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--formats", help="Of html,jsonl,parquet,sarif,junit,markdown,csv.")
    ] = "",
    code: Annotated[
        bool | None, typer.Option(
            "--code/--prompts", help="Code to measure, or prompts to continue. Default: by name."
        ),
    ] = None,
    git_diff: Annotated[
        str, typer.Option("--git-diff", help="BASE..HEAD: judge what changed, in its context.")
    ] = "",
    language: Annotated[str, typer.Option(help="Language of the code. Default: detected.")] = "",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Continuations of every prompt. Default: 1, greedy.")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t")] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", "-n", min=1)] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    processes: Annotated[int, typer.Option(min=1, help="Share the cases out.")] = 1,
    engine: Annotated[
        str, typer.Option("--engine", help="local, or ray: --processes actors of a Ray cluster.")
    ] = "local",
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The build that was approved: measure drift.")
    ] = None,
    baseline_dtype: Annotated[
        str | None, typer.Option("--baseline-dtype", help="Its dtype. Default: what fits.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where --out holds an audit already.")
    ] = False,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Hold what a model writes, or code that exists, against a policy; write reports."""
    from dataclasses import replace

    from tokenscope.cli.pace import Pace
    from tokenscope.code.aliases import chosen
    from tokenscope.control import Control
    from tokenscope.evidence.policy import Policy, read_policy
    from tokenscope.evidence.report import FORMATS, WRITERS
    from tokenscope.evidence.sources import of_text

    names = tuple(n.strip() for n in formats.split(",") if n.strip()) or FORMATS
    for name in names:
        WRITERS.get(name)
    rules = read_policy(policy) if policy is not None else Policy()
    if language:
        rules = replace(rules, language=chosen(language))
    if out is None:
        raise InputError("--out", "names the folder for the reports; it is needed")
    if out.exists() and not out.is_dir():
        raise InputError("--out", "is a file; a folder is needed")
    source: object = prompts
    if str(prompts) == "-":
        if code is False:
            raise InputError("PROMPTS", "prompts on stdin: give a file")
        source = [of_text(sys.stdin.buffer.read((8 << 20) + 1), "stdin", rules.language)]
    elif not prompts.exists():
        raise InputError("PROMPTS", "there is no such file or folder")
    given = {"samples": samples, "temperature": temperature, "max_new_tokens": max_new_tokens,
             "seed": seed}  # fmt: skip
    if engine not in ("local", "ray"):
        raise InputError("--engine", "must be local or ray")
    model = wanted.load()

    from tokenscope.runs.audit import audit as start
    from tokenscope.runs.audit_pool import Opening

    other = None
    if baseline is not None or baseline_dtype is not None:
        named = baseline if baseline is not None else wanted.model
        other = replace(wanted, model=named, dtype=baseline_dtype).load()
    opening = Opening(model.path, model.info.dtype, wanted.device, wanted.start_token,
                      wanted.allow_links)  # fmt: skip
    result = start(
        source, model=model, engine=engine, policy=rules, out=out, formats=names, code=code,  # type: ignore[arg-type]
        git_diff=git_diff, processes=processes, fresh=fresh, opening=opening, baseline=other,
        control=Control(Pace().told), **{k: v for k, v in given.items() if v is not None},
    )  # fmt: skip
    if as_json:
        document({**result.report.summary(), "exit": result.exit_code,
                  "written": {n: str(p) for n, p in result.written.items()}})  # fmt: skip
    elif len(result.gates):
        table(result.gates.drop(columns=["method"]))
    for error in result.report.errors[:10]:
        at = f" line {error['line']}" if error["line"] else ""
        say(f"{error['where']}{at}: {error['reason']}")
    if result.report.errors_total > 10:
        say(f"{result.report.errors_total} in all, see errors.jsonl and records.jsonl")
    f = result.report.figures
    say(f"{result.state}: {f.cases} cases, {f.samples} samples, {result.report.groups} groups of "
        f"findings; reports in {out}")  # fmt: skip
    return result.exit_code


def rules(
    packs: Annotated[
        list[Path] | None, typer.Argument(help="Rule packs (YAML). Default: those that ship.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Measure rule packs on the samples that they ship: recall and false alarms of every rule."""
    from tokenscope.evidence.measured import frame, measure
    from tokenscope.evidence.pack import read_packs, starter

    held = [p for path in packs for p in read_packs(path)] if packs else list(starter())
    made = frame(measure(held))
    if as_json:
        made = made.astype(object).where(made.notna(), None)
        document({"rules": made.to_dict("records")})
    else:
        table(made)
    return 0
