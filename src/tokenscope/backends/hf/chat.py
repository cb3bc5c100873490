"""Chat prompts: the tokenizer's own template, rendered apart, with a time and memory limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenscope.backends.hf import guarded
from tokenscope.backends.hf.checkpoint import read_json, read_text
from tokenscope.errors import InputError, ModelError

SECONDS = 5
MEMORY = 512 << 20
MAX_TEMPLATE = 1 << 20
# What a template may write beyond the messages' own characters: headers, a system prompt.
MAX_FRAME = 64 << 10
MAX_FRAME_PER_MESSAGE = 1 << 10
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
FIELDS = ("role", "content")
TRIAL = {n: f"<{n}>" for n in ("bos_token", "eos_token", "unk_token", "pad_token")}


def find_template(folder: Path) -> str | None:
    """The chat template of a model folder, or None. Raises ModelError for an unreadable one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file, MAX_TEMPLATE) or None
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return None
    template = read_json(config).get("chat_template")
    if isinstance(template, list):  # several named templates: the default one
        named = {str(t.get("name")): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ModelError(config, "chat_template: is no text")
    if template and len(template) > MAX_TEMPLATE:
        raise ModelError(config, f"chat_template: is over {MAX_TEMPLATE} characters")
    return template or None


def check(messages: Sequence[Mapping[str, str]], special_in: Callable[[str], str | None]) -> None:
    """Raise InputError for messages that a template should not see.

    A message has a role out of ROLES and a content; neither may bring a special token
    (``special_in`` gives its literal): only the template writes those.
    """
    for n, message in enumerate(messages):
        unknown = next((k for k in message if k not in FIELDS), None)
        if unknown is not None:
            raise InputError(f"messages.{n}", f"unknown field {str(unknown)[:40]!r}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise InputError(f"messages.{n}.role", f"{str(role)[:40]!r}; known: {', '.join(ROLES)}")
        field = f"messages.{n}.content"
        if not isinstance(content, str):
            raise InputError(field, "is no text")
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(field, f"lone surrogate at character {error.start}") from None
        found = special_in(content)
        if found is not None:
            raise InputError(field, f"holds the special token {found!r}")


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any],
    special_in: Callable[[str], str | None],
    seconds: float = SECONDS,
    where: object = "chat template",
) -> str:
    """The prompt text. Raises InputError for messages, ModelError for a template that fails."""
    check(messages, special_in)
    given = sum(len(m["content"]) for m in messages)
    most = 2 * given + MAX_FRAME + MAX_FRAME_PER_MESSAGE * len(messages)
    job = {
        "template": template, "messages": [dict(m) for m in messages],
        "variables": dict(variables), "most": most,
    }  # fmt: skip
    return str(guarded.run("template_worker.py", job, where, MEMORY, seconds)["text"])


@lru_cache(maxsize=64)
def failure(template: str) -> str | None:
    """Why a template cannot be used, tried on one message at load; None where it can.

    A template that refuses this conversation in words of its own may take another one.
    """
    try:
        render(template, [{"role": "user", "content": "x"}], TRIAL, lambda _: None, 3.5)
    except ModelError as error:
        return None if error.cause.startswith("refused") else error.cause
    return None
