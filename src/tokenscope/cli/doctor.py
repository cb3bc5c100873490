"""``tokenscope doctor``: does this machine have what TokenScope needs?"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tokenscope.cli.options import DataOption, JsonOption
from tokenscope.cli.output import document, visible
from tokenscope.errors import TokenScopeError

Verdict = Literal["ok", "note", "fail"]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ENOUGH_MEMORY = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``fail``: TokenScope cannot work; ``note``: something is left out."""

    what: str
    verdict: Verdict
    detail: str


def doctor(data: DataOption = None, as_json: JsonOption = False) -> int:
    """Look at everything that TokenScope needs. Exit 3 when something necessary is missing."""
    from tokenscope.store import default_folder

    folder = data if data is not None else default_folder()
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", python), ("torch", torch_build), ("memory", memory), ("node", node),
        ("browser", browser), ("page", page),
        ("data folder", lambda: data_folder(folder)), ("bundled model", bundled),
    )  # fmt: skip
    found = [guarded(name, check) for name, check in checks]
    failed = any(f.verdict == "fail" for f in found)
    if as_json:
        document({"ok": not failed, "checks": [asdict(f) for f in found]})
    else:
        for f in found:
            print(visible(f"{f.verdict:5} {f.what:14} {f.detail}"))
    return 3 if failed else 0


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """One check; whatever it raises is a finding, so that the others still run."""
    try:
        return check()
    except TokenScopeError as error:
        return Finding(name, "fail", str(error))
    except Exception as error:  # noqa: BLE001 - a doctor reports every failure, of any kind
        return Finding(name, "fail", f"{type(error).__name__}: {error}"[:300])


def python() -> Finding:
    """3.11 or newer."""
    fits = sys.version_info >= (3, 11)
    return Finding("python", "ok" if fits else "fail", platform.python_version())


def torch_build() -> Finding:
    """Version, threads, accelerator."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no accelerator"
    threads = torch.get_num_threads()
    return Finding("torch", "ok", f"{torch.__version__}, {threads} threads, {device}")


def memory() -> Finding:
    """What is free now."""
    import psutil

    free = int(psutil.virtual_memory().available)
    verdict: Verdict = "ok" if free >= ENOUGH_MEMORY else "note"
    return Finding("memory", verdict, f"{free / 2**30:.1f} GiB available")


def node() -> Finding:
    """Needed to build the page from source only."""
    found = shutil.which("node")
    return (
        Finding("node", "ok", found)
        if found
        else Finding(
            "node", "note", "not on the path: needed only to build the page (`make` brings one)"
        )
    )


def browser() -> Finding:
    """Needed for the browser tests only."""
    found = next((p for p in map(shutil.which, CHROMIUM) if p), None)
    return (
        Finding("browser", "ok", found)
        if found
        else Finding(
            "browser", "note", "no Chromium on the path: needed only for the browser tests"
        )
    )


def page() -> Finding:
    """Has the page been built?"""
    from tokenscope.server.page import FOLDER

    built = (FOLDER / "index.html").is_file()
    return (
        Finding("page", "ok", "built")
        if built
        else Finding(
            "page", "note", "not built: `make page` builds it; the command line works without"
        )
    )


def data_folder(folder: Path) -> Finding:
    """Can sessions be kept?"""
    place = folder
    while not place.exists():
        place = place.parent
    with tempfile.TemporaryFile(dir=place):
        free = shutil.disk_usage(place).free
    return Finding("data folder", "ok", f"{folder}, {free / 2**30:.1f} GiB free")


def bundled() -> Finding:
    """Does the bundled model load, and write a token?"""
    from tokenscope.cli.options import Wanted

    model = Wanted().load()
    trace = model.generate("def add(a, b):\n    return", max_new_tokens=1)
    model.close()
    size = (model.info.parameters or 0) / 1e6
    return Finding("bundled model", "ok", f"{size:.1f} M parameters; wrote {trace.generated!r}")
