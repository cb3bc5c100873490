"""``tokenscope records|verify|bom``: the log of what was done, whether it was bent, and by what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.options import DataOption, JsonOption
from tokenscope.cli.output import document, say
from tokenscope.errors import InputError, NotFound, StoreError

if TYPE_CHECKING:
    from tokenscope.records import RecordLog
    from tokenscope.store import Store

KeyFile = Annotated[
    Path | None, typer.Option("--signing-key", help="The key's file. Default: beside the records.")
]


def records(
    last: Annotated[int, typer.Option(min=0, help="How many to list, the newest.")] = 20,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a signing key, or replace the one there is.")
    ] = False,
    head: Annotated[
        Path | None, typer.Option(help="Write the head to a file; keep it elsewhere.")
    ] = None,
    prove: Annotated[
        int | None, typer.Option(help="Print that this record belongs to its sealed day.")
    ] = None,
    erase: Annotated[
        list[int] | None, typer.Option(help="Erase what this record is about (repeat).")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why it is erased; goes into the log.")] = "",
    seal: Annotated[bool, typer.Option("--seal", help="Seal the days that are over.")] = False,
    signing_key: KeyFile = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the records of a data folder, sign, export, prove or erase them."""
    from tokenscope.records import somebody

    log = opened(data, signing_key)
    who = f"{somebody()} (command line)"
    out: dict[str, Any] = {"folder": str(log.folder)}
    if erase and not reason:
        raise InputError("--reason", "is needed: the log says why something was erased")
    if new_key:
        out["key"] = log.new_key(who)
        say(f"key {out['key']} signs from now on ({log.keys.path}); note the fingerprint elsewhere")
    if erase:
        made = log.erase(erase, reason, who)
        out["erased"] = sorted(erase) if made is not None else []
        say(f"erased {len(out['erased'])} payload(s); the records stay")
    if seal:
        out["sealed"] = [s["day"] for s in log.seal()]
        say(f"sealed {len(out['sealed'])} day(s)")
    if head is not None:
        from tokenscope import disk

        found = log.head()
        if found is None:
            raise InputError("--head", "there are no records yet")
        disk.write_whole(head, [(json.dumps(found.to_json(), indent=1) + "\n").encode()])
        out["head"] = found.to_json()
        say(f"{head}: covers {found.seq} record(s){'' if found.key else ', not signed'}")
    if prove is not None:
        out["proof"] = log.proof(prove)
        if not as_json:
            print(json.dumps(out["proof"], indent=1))
    listed = list(log.records())
    out["count"] = len(listed)
    out["records"] = [
        {"seq": r.seq, "at": r.at, "kind": r.kind, "who": r.who, "about": log.payload(r.seq)}
        for r in (listed[-last:] if last else [])
    ]
    if as_json:
        document(out)
    elif prove is None:
        for row in out["records"]:
            print(_line(row))
    return 0


def verify(
    head: Annotated[
        list[Path] | None, typer.Option(help="A head that was kept elsewhere (repeat).")
    ] = None,
    key: Annotated[str, typer.Option(help="The fingerprint that the log must be signed by.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check the records of a data folder, or of an audit's, and what they tell of. Exit 1: bent."""
    from tokenscope.records import Head
    from tokenscope.records import verify as check

    log = opened(data, None)
    heads = []
    for file in head or []:
        try:
            heads.append(Head.from_json(json.loads(file.read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            raise InputError("--head", f"{file} is not a head that was exported") from error
    store = _store(log.folder.parent)
    try:
        found = check(log, heads, key, lambda p: _same(store, log.folder.parent, p))
    finally:
        if store is not None:
            store.close()
    if as_json:
        document(found.to_json())
    else:
        for problem in found.problems:
            print(problem.message)
        words = "fits together" if found.ok else f"{len(found.problems)} problem(s)"
        say(f"{found.records} record(s), {found.erased} erased, {found.sealed_days} sealed day(s), "
            f"{found.traces} trace(s) or lists of files compared: {words}")  # fmt: skip
        for note in found.notes:
            say(note)
    return 0 if found.ok else 1


def bom(
    model: Annotated[
        str, typer.Argument(help="A model: bundled, a fetched one, folder, file.")
    ] = "bundled",
    out: Annotated[Path | None, typer.Option(help="Write it to a file, not to stdout.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Print the bill of materials (CycloneDX 1.6) of a model and of the software that runs it."""
    from tokenscope import disk
    from tokenscope.library.scan import found
    from tokenscope.runs.bom import bill

    made = bill(found(model))
    if out is None or as_json:
        document(made)
    if out is not None:
        disk.write_whole(out, [(json.dumps(made, indent=1) + "\n").encode()], mode=0o644)
        say(f"{out}: {len(made['components'])} components")
    return 0


def opened(data: Path | None, key: Path | None) -> RecordLog:
    """The log of a data folder. Raises InputError where there is no such folder."""
    from tokenscope.records import FOLDER, RecordLog
    from tokenscope.store import default_folder

    folder = data if data is not None else default_folder()
    if not folder.is_dir():
        raise InputError("--data", f"{folder} is not a folder")
    return RecordLog(folder / FOLDER, key)


def _store(folder: Path) -> Store | None:
    """The store, to compare traces; None where a server holds it, or there is none."""
    from tokenscope.store import Store
    from tokenscope.store.database import FILE

    if not (folder / FILE).is_file():
        return None
    try:
        return Store(folder, retention=None)
    except StoreError as error:
        say(f"traces are not compared: {error}")
        return None


def _same(store: Store | None, folder: Path, payload: dict[str, Any]) -> list[str] | None:
    from tokenscope.records.content import changed_files, differences

    if "files" in payload:
        return changed_files(payload["files"], folder)
    if store is None:
        return None
    try:
        return differences(payload, store.trace(str(payload.get("node", ""))))
    except NotFound:
        return None
    except StoreError as error:
        return [str(error)]


def _line(row: dict[str, Any]) -> str:
    about = row["about"]
    if about is None:
        return f"{row['seq']:>6}  {row['at'][:19]}  {row['kind']:<10} {row['who']}  (erased)"
    words = " ".join(str(about[k]) for k in ("job", "finish", "node", "reason") if about.get(k))
    return f"{row['seq']:>6}  {row['at'][:19]}  {row['kind']:<10} {row['who']}  {words}"
