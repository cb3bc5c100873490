"""``python -m tokenscope``, and the command ``tokenscope``."""

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
        from tokenscope.cli import run

        code = run(sys.argv[1:])
    except BaseException:
        if not asked:
            raise
        code = asked[0]
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is short: nothing more to interrupt
    sys.exit(asked[0] if asked else code)


if __name__ == "__main__":
    main()
