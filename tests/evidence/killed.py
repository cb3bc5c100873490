"""An audit killed at random points and gone on with, in children of one process that has the model.

``python killed.py FOLDER KILLS SEED``: PROMPTS in ``FOLDER/p.jsonl``; the audit is done whole into
``FOLDER/whole``, and killed ``KILLS`` times into ``FOLDER/killed``, then finished. Prints how many
children died of the signal.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, kills: int, seed: int) -> None:
    import torch

    import tokenscope as ts

    torch.set_num_threads(1)  # a child of a process with threads would hang
    model = ts.load()
    model.generate("x", max_new_tokens=1)

    def child(out: Path) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ts.audit(folder / "p.jsonl", model=model, out=out, samples=2, max_new_tokens=5,
                         formats=["jsonl"])  # fmt: skip
                code = 0
            finally:
                os._exit(code)
        return pid

    def finished(pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    if finished(child(folder / "whole")):
        raise SystemExit("the whole audit failed")
    size = (folder / "whole" / "records.jsonl").stat().st_size
    chance, journal, deaths = random.Random(seed), folder / "killed" / "records.jsonl", 0
    for _ in range(kills):
        pid = child(folder / "killed")
        held = journal.stat().st_size if journal.exists() else 0
        until = held + chance.randrange(1, max(2, size // kills))
        while (journal.stat().st_size if journal.exists() else 0) < until:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.0005)
        time.sleep(chance.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        deaths += finished(pid) == -signal.SIGKILL
    if finished(child(folder / "killed")):
        raise SystemExit("the killed audit could not be finished")
    print(deaths)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
