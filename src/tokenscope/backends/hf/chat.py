"""Chat prompts: the tokenizer's own template, rendered apart, with a time and memory limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenscope.backends.hf.checkpoint import read_json
from tokenscope.errors import InputError, ModelError

SECONDS = 5
MEMORY = 1 << 30
WORKER = Path(__file__).with_name("template_worker.py")


def find_template(folder: Path) -> str | None:
    """The chat template of a model folder, or None."""
    file = folder / "chat_template.jinja"
    if file.is_file() and file.stat().st_size < 1 << 20:
        return file.read_text("utf-8")
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return None
    template = read_json(config).get("chat_template")
    if isinstance(template, list):  # several named templates: the default one
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) and template else None


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any],
    specials: Iterable[str],
    seconds: float = SECONDS,
) -> str:
    """The prompt text. Raises InputError for messages, ModelError for a template that fails.

    A message may not hold the literal of a special token: it would become that token.
    """
    literals = list(specials)
    for n, message in enumerate(messages):
        content = message.get("content", "")
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"messages.{n}.content", f"lone surrogate at character {error.start}"
            ) from None
        found = next((s for s in literals if s and s in content), None)
        if found is not None:
            raise InputError(f"messages.{n}.content", f"holds the special token {found!r}")
    job = {
        "template": template, "messages": [dict(m) for m in messages],
        "variables": dict(variables), "memory": MEMORY, "seconds": int(seconds) + 1,
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(WORKER)], input=json.dumps(job), capture_output=True,
            text=True, encoding="utf-8", timeout=seconds, check=False, env={},
        )  # fmt: skip
        out = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise ModelError("chat template", f"took longer than {seconds:g} s") from None
    except ValueError:
        raise ModelError("chat template", "was stopped at its memory or time limit") from None
    if "error" in out:
        raise ModelError("chat template", out["error"])
    return str(out["text"])
