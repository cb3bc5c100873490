"""The command line. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 a check or policy failed, 2 bad input, 3 the environment lacks something,
130 interrupted. ``--json`` prints one JSON document to stdout and nothing else, also on failure.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of the signal, as shells say it


def main() -> None:
    """Run one command and exit with its code. A signal ends it without a traceback.

    Importing the libraries takes seconds, and a signal in the middle of an import can come out as
    any error: whatever is raised after one is its echo.
    """
    asked: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        asked.append(INTERRUPTED if number == signal.SIGINT else TERMINATED)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        code = run(sys.argv[1:])
    except BaseException:
        if not asked:
            raise
        code = asked[0]
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is short: nothing more to interrupt
    sys.exit(asked[0] if asked else code)


def run(arguments: list[str]) -> int:
    """Run one command. Returns the exit code. The libraries are imported here, not before."""
    from tokenscope.cli.commands import run as command

    return command(arguments)
