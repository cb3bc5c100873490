"""A test file run on a text, where it can do no harm: bubblewrap, or not at all.

Inside there is no network, no home, no file of the host but the system's libraries and the
interpreter (read-only), a process table and a host name of its own, 16 MB of scratch memory as
disk, and limits on memory, CPU, processes, file size and wall time. The memory of all processes
together is watched from outside. Where bubblewrap is missing, or may not make namespaces, nothing
is run and the reason is said.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from tokenscope.errors import MissingError

NOBODY = 65534
TMP = "/tmp"  # noqa: S108 (the one inside, which is nobody else's)
SCRATCH = 16 << 20
MOST_SAID = 64 << 10
LOOKS_EVERY = 0.02
ERROR = re.compile(rb"^([A-Za-z_][\w.]{0,60}(?:Error|Exception|Exit|Interrupt))\b", re.MULTILINE)
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run: ``memory`` bytes of all processes together, ``seconds`` of wall time and, per
    process, of CPU, ``processes``, bytes of a ``file``."""

    memory: int = 256 << 20
    seconds: float = 10.0
    processes: int = 16
    file: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Ran:
    """``ended``: passes, fails, out of time, out of memory, too many processes. ``error``: the
    last exception's name, where it fails with one."""

    ended: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.ended}: {self.error}" if self.error else self.ended


def run(code: bytes, test: bytes, limits: Limits = Limits()) -> Ran:
    """Run ``test`` (a Python file) beside ``branch.py``, which holds ``code``. Exit 0 passes.

    Raises MissingError where there is no sandbox.
    """
    reason = unavailable()
    if reason:
        raise MissingError(f"no test is run without a sandbox: {reason}")
    with _folder({"branch.py": code, "test_branch.py": test}) as folder:
        return _watched(_command(folder, limits), limits)


@cache
def unavailable() -> str:
    """Why there is no sandbox; "" where there is one. Tried once."""
    if not sys.platform.startswith("linux"):
        return "bubblewrap runs on Linux only"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (the program bwrap)"
    with _folder({"test_branch.py": b"print(1)\n"}) as folder:
        limits = Limits()
        try:
            done = subprocess.run(
                _command(folder, limits),
                capture_output=True,
                timeout=20,
                check=False,
                user=_who(),
                group=_who(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"bubblewrap cannot be run ({type(error).__name__})"
    if done.returncode == 0 and done.stdout == b"1\n":
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"bubblewrap cannot make namespaces here ({said[-1][:120] if said else 'no reason'})"


def _command(folder: Path, limits: Limits) -> list[str]:
    python, base = _interpreter()
    places = [p for p in SYSTEM if os.path.exists(p)]
    if not any(base == p or base.startswith(p + "/") for p in places):
        places.append(base)
    shown: list[str] = []
    for place in places:
        if os.path.islink(place):
            shown += ["--symlink", os.readlink(place), place]
        else:
            shown += ["--ro-bind", place, place]
    inside = (Path(__file__).parent / "inside.py").read_text()
    return [
        str(shutil.which("bwrap")), "--unshare-all", "--unshare-user", "--die-with-parent",
        "--new-session", "--cap-drop", "ALL", "--uid", str(NOBODY), "--gid", str(NOBODY),
        "--hostname", "sandbox", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin",
        "--setenv", "HOME", TMP, "--setenv", "PYTHONDONTWRITEBYTECODE", "1",
        *shown, "--proc", "/proc", "--dev", "/dev", "--size", str(SCRATCH), "--tmpfs", TMP,
        "--ro-bind", str(folder), "/work", "--remount-ro", "/", "--chdir", "/work", "--",
        python, "-I", "-c", inside, str(limits.memory), str(limits.processes),
        str(max(1, int(limits.seconds))), str(limits.file),
        python, "-E", "-s", "-B", "test_branch.py",
    ]  # fmt: skip


def _interpreter() -> tuple[str, str]:
    """This interpreter and its folder, or the system's where nobody may not reach this one."""
    own = os.path.realpath(sys.executable)
    folders = [own, *(str(p) for p in Path(own).parents)]
    if os.geteuid() == 0 and not all(os.stat(f).st_mode & 0o001 for f in folders):
        system = shutil.which("python3", path="/usr/bin:/bin")
        if system is None:
            raise OSError("no interpreter that the user nobody may run")
        return os.path.realpath(system), "/usr"
    return own, os.path.realpath(sys.base_prefix)


def _watched(command: list[str], limits: Limits) -> Ran:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True, user=_who(), group=_who(),
    )  # fmt: skip
    assert process.stderr is not None
    with process.stderr as said:
        os.set_blocking(said.fileno(), False)
        end = time.monotonic() + limits.seconds
        ended, kept = "", b""
        try:
            while process.poll() is None and not ended:
                kept = _read(said.fileno(), kept)
                memory, count = _family(process.pid)
                if time.monotonic() > end:
                    ended = "out of time"
                elif memory > limits.memory:
                    ended = "out of memory"
                elif count > 2 * limits.processes + 4:  # where the limit inside does not bind
                    ended = "too many processes"
                time.sleep(LOOKS_EVERY)
        finally:
            _end(process)
        kept = _read(said.fileno(), kept)
    if ended:
        return Ran(ended)
    code = process.returncode
    if code == 0:
        return Ran("passes")
    names = ERROR.findall(kept)
    error = names[-1].decode() if names else ""
    if error == "MemoryError":
        return Ran("out of memory")
    if code in (128 + signal.SIGXCPU, -signal.SIGXCPU, 128 + signal.SIGKILL):
        return Ran("out of time")
    return Ran("fails", error)


def _read(descriptor: int, kept: bytes) -> bytes:
    """What was said meanwhile; of much only the end is kept."""
    for _ in range(64):
        try:
            part = os.read(descriptor, MOST_SAID)
        except BlockingIOError:
            break
        if not part:
            break
        kept = (kept + part)[-MOST_SAID:]
    return kept


def _family(pid: int) -> tuple[int, int]:
    """Bytes that the processes below hold together, and how many they are."""
    total = count = 0
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return 0, 0
    for one in family:
        try:
            total += int(one.memory_info().rss)
            count += 1
        except psutil.Error:
            continue
    return total, count


def _end(process: subprocess.Popen[bytes]) -> None:
    """The end of all of it: with bwrap dies its process table."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _who() -> int | None:
    """Limits on processes do not bind root: as root it becomes nobody first."""
    return NOBODY if os.geteuid() == 0 else None


@contextmanager
def _folder(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tokenscope-sandbox-") as made:
        folder = Path(made)
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o644)
        folder.chmod(0o755)
        yield folder
