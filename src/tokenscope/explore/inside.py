"""Runs inside the sandbox, before anything of the user's: sets limits, then becomes the test.

It is read as text and handed to the interpreter there; nothing of TokenScope can be imported.
"""

import os
import resource
import sys

memory, processes, seconds, files = (int(x) for x in sys.argv[1:5])
for what, limit in (
    (resource.RLIMIT_AS, memory), (resource.RLIMIT_NPROC, processes),
    (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, files), (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 64),
):  # fmt: skip
    resource.setrlimit(what, (limit, limit))
os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606 (no shell is wanted)
