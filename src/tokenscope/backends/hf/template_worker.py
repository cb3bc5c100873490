"""Renders one chat template in a process of its own: stdin JSON in, stdout JSON out.

Run by path with ``python -I``; it imports nothing of TokenScope. A template comes with a model and
is hostile until proved otherwise: the sandbox keeps it from Python's insides, the caller's limits
keep it from time and memory.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def _limits(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # no rlimits on this platform; the caller's time limit still holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


class Refused(Exception):
    """The template itself says that it does not take these messages."""


def _refuse(message: str) -> None:
    raise Refused(str(message)[:200])


def main() -> None:
    """Read ``{template, messages, variables, most, memory, seconds}``; write ``{text}`` or
    ``{error}``. ``most``: characters that may come out."""
    job: dict[str, Any] = json.load(sys.stdin)
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    _limits(int(job["memory"]), int(job["seconds"]))
    try:
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        env.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        env.globals["raise_exception"] = _refuse
        env.globals["strftime_now"] = lambda _format: ""
        text = env.from_string(job["template"]).render(
            messages=job["messages"], add_generation_prompt=True, **job["variables"]
        )
        out = {"text": text}
        if len(text) > int(job["most"]):
            out = {"error": f"renders {len(text)} characters where {job['most']} are the limit"}
    except Refused as error:
        out = {"error": f"refused: {error}"}
    except MemoryError:
        out = {"error": "took too much memory"}
    except Exception as error:  # noqa: BLE001 (a face: whatever it raises becomes a line)
        out = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
