"""What a test may not do in the sandbox, tried; and that nothing runs without one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from tests.explore.small import engine
from tokenscope.errors import InputError, MissingError
from tokenscope.explore import sandbox
from tokenscope.explore.keys import key_of
from tokenscope.explore.sandbox import Limits, run
from tokenscope.runs.explore import explore

REASON = sandbox.unavailable()
inside = pytest.mark.skipif(bool(REASON), reason=REASON or "-")
CODE = b"def f(x):\n    return x + 1\n"
SHORT = Limits(seconds=2.0)

TRIES = {
    "passes": ("import branch\nassert branch.f(1) == 2\n", "passes"),
    "fails": ("import branch\nassert branch.f(1) == 3\n", "fails: AssertionError"),
    "loops": ("while True: pass\n", "out of time"),
    "sleeps": ("import time; time.sleep(99)\n", "out of time"),
    "memory": ("x = []\nwhile True: x.append(bytearray(1 << 20))\n", "out of memory"),
    "memory of many": (
        "import os, time\nfor i in range(6):\n    if os.fork() == 0:\n"
        "        x = b'x' * (80 << 20)\n        time.sleep(60)\ntime.sleep(60)\n",
        "out of memory",
    ),
    "fork bomb": (
        "import os\nn = 0\nwhile True:\n    try:\n        if os.fork() == 0:\n"
        "            import time; time.sleep(60)\n        n += 1\n"
        "    except OSError: raise SystemExit(0 if n <= 16 else 5)\n",
        "passes",
    ),
    "disk": (
        "for i in range(100): open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))\n", "fails: OSError"
    ),
    "large file": ("open('/tmp/x', 'wb').write(b'x' * (9 << 20))\n", "fails: OSError"),
    "write beside": ("open('/work/x', 'w')\n", "fails: OSError"),
    "write root": ("open('/x', 'w')\n", "fails: OSError"),
    "write system": ("open('/usr/x', 'w')\n", "fails: OSError"),
    "network": (
        "import socket\nassert [n for _, n in socket.if_nameindex()] == ['lo']\n", "passes"
    ),
    "host files": ("open('/etc/passwd')\n", "fails: FileNotFoundError"),
    "home": ("import os\nassert not os.path.exists('/root') and not os.path.exists('/home')\n",
             "passes"),
    "symlink": ("import os\nos.symlink('/etc/shadow', '/tmp/l')\nopen('/tmp/l')\n",
                "fails: FileNotFoundError"),
    "processes": ("import os\nassert len([d for d in os.listdir('/proc') if d.isdigit()]) < 5\n",
                  "passes"),
    "root by proc": ("import os\nassert 'passwd' not in os.listdir('/proc/1/root/etc')\n",
                     "fails: FileNotFoundError"),
    "kernel by proc": ("open('/proc/sys/kernel/hostname', 'w').write('x')\n",
                       "fails: PermissionError"),
    "environment": ("import os\nassert set(os.environ) <= {'PATH', 'HOME', 'PWD', 'LC_CTYPE',"
                    " 'PYTHONDONTWRITEBYTECODE'}, os.environ\n", "passes"),
    "kill others": ("import os\nos.kill(-1, 9)\n", "fails: ProcessLookupError"),
    "raise limits": ("import resource as r\nr.setrlimit(r.RLIMIT_NPROC, (999, 999))\n",
                     "fails: ValueError"),
    "mount": ("import ctypes\nmount = ctypes.CDLL(None).mount\n"
              "assert mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0\n",
              "fails: AssertionError"),
    "noise": ("import sys\nwhile True: sys.stderr.write('x' * 10000)\n", "out of time"),
}  # fmt: skip


@inside
@pytest.mark.parametrize("name", TRIES)
def test_it_is_held(name: str) -> None:
    test, ends = TRIES[name]
    began = time.monotonic()
    # what is to run out of memory gets the time for it on a busy machine, too
    limits = Limits(seconds=20.0) if ends == "out of memory" else SHORT
    assert str(run(CODE, test.encode(), limits)) == ends
    assert time.monotonic() - began < 30


@inside
def test_nothing_lives_on() -> None:
    mark = f"left-{os.getpid()}"
    test = f"import os, time\nif os.fork() == 0:\n    os.setsid(); '{mark}'; time.sleep(30)\n"
    assert str(run(CODE, test.encode(), SHORT)) == "passes"
    below = psutil.Process().children(recursive=True)
    assert not [p for p in below if p.status() != psutil.STATUS_ZOMBIE and "bwrap" in p.name()]


@inside
def test_branches_by_what_they_do(tmp_path: Path) -> None:
    test = tmp_path / "t.py"
    test.write_text("import branch\nassert branch.x == 'a'\n")
    found = explore(engine("abc'"), "x='a'\nx='", outcome=f"behaviour:{test}", width=5, depth=2,
                    horizon=2)  # fmt: skip
    keys = {found.text(b.name): found.keys[b.name] for b in found.branches}
    assert keys["a'"] == "passes"
    assert keys["b'"] == "fails: AssertionError"
    assert keys["ab"] == "fails: SyntaxError"


def test_without_a_sandbox_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    monkeypatch.setattr(sandbox, "unavailable", lambda: "bubblewrap is not installed")
    ran = tmp_path / "ran"
    test = tmp_path / "t.py"
    test.write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(MissingError, match="not installed"):
        run(CODE, test.read_bytes())
    with pytest.raises(MissingError, match="not installed"):
        key_of(f"behaviour:{test}")
    assert not ran.exists()
    with pytest.raises(InputError, match="behaviour"):
        key_of("behaviour:/nowhere/t.py")
