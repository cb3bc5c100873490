"""Pause, private spans, retention: what the recorder does not keep."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from tests.server.test_recorder import KEY, Talking, branches
from tokenscope.backends.scripted import saying
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.runs.model import Model
from tokenscope.server.models import Models
from tokenscope.server.recorder.redact import LABEL, Redacted, Redaction
from tokenscope.server.recorder.state import Recorder
from tokenscope.store import Store
from tokenscope.store.rows import now
from tokenscope.trace.tokens import Tokens

if TYPE_CHECKING:
    from conftest import Served

SECRET = "sk-abcdefghijklmnop1234"
PROMPT = f"key = '{SECRET}'\nmail = "
MADE = "'ann@bank.example'\nprint(key)\n# sk-zyxwvutsrqponmlk9876"


def served_with(serve: Callable[..., Served], **given: Any) -> tuple[Served, openai.OpenAI]:
    served = serve(
        models=Models.of_one(Model(Talking(saying(PROMPT + MADE)))), recorder=KEY,
        house={"recorder": Recorder(**given)},
    )  # fmt: skip
    url = f"{served.address}/v1"
    return served, openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)


def test_private_spans_reach_the_client_and_no_record(serve: Callable[..., Served]) -> None:
    served, client = served_with(serve, redaction=Redaction(["secrets", "emails"]))
    session = served.session()
    for stream in (False, True):  # the second one begins where the first was measured
        made = client.completions.create(
            model="bundled", prompt=PROMPT, max_tokens=90, temperature=0, stream=stream, logprobs=2
        )
        text = (
            "".join(p.choices[0].text for p in made) if stream else made.choices[0].text  # type: ignore[union-attr]
        )
        assert text == MADE
    assert served.idle()
    nodes = branches(served)
    assert len(nodes) == 2
    for node in nodes:
        trace = served.house.store.trace(node["id"])
        want = PROMPT + MADE
        for secret in (SECRET, "ann@bank.example", "sk-zyxwvutsrqponmlk9876"):
            want = want.replace(secret, "")
        assert trace.text == want
        hidden = np.array([label == LABEL for label in map(trace.tokens.labels.get,
                                                           range(len(trace)))])  # fmt: skip
        assert hidden.sum() == len(SECRET) * 2 + len("ann@bank.example") == (trace.ids == -1).sum()
        assert np.isnan(trace.column("logprob")[hidden]).all()
        assert np.isfinite(trace.column("logprob")[1:][~hidden[1:]]).all()
        assert (trace.alternatives.ids[hidden] == -1).all()  # type: ignore[union-attr]
        assert trace.origin.request.prompt == "key = '[redacted]'\nmail = "
        at = int(np.nonzero(hidden)[0][-1]) + 1
        fork = served.client.post(f"/api/nodes/{node['id']}/fork", json={"at": at, "text": "x"})
        assert fork.status_code == 422 and "redacted" in fork.json()["message"]
    job = served.client.get("/api/events", params={"run": served.house.jobs.all()[-1].id})
    folder = served.house.store.path
    files = [p.read_bytes() for p in folder.rglob("*") if p.is_file()]
    for secret in (SECRET, "ann@bank", "sk-zyxwvutsrqponmlk9876"):
        assert not any(secret.encode() in data for data in files)
        assert secret not in job.text
        for letters in (np.frombuffer(secret.encode(), np.uint8).astype(np.int32),):
            assert not any(letters.tobytes() in data for data in files), "as ids"
    assert session


def test_patterns() -> None:
    hide = Redaction(["secrets", r"\d{4}-\d{4}"])
    for text, want in (
        ("a 1234-5678 b", "a [redacted] b"), ("password = 'hunter22'", "[redacted]"),
        ("AKIAABCDEFGHIJKLMNOP", "[redacted]"), ("token = tokenizer('x')", None),
        ("größe 1234-5678", "größe [redacted]"), ("sk-short", None),
    ):  # fmt: skip
        assert hide.text(text) == (text if want is None else want)
    with pytest.raises(InputError, match="no pattern"):
        Redaction(["("])


def test_a_span_that_began_in_the_prompt_is_hidden_too() -> None:
    def one(at: int, text: str) -> Step:
        return Step(at, Tokens.of([ord(text)], [text.encode()]), {})

    given = "a\nx = 'se"
    hide = Redacted(Redaction(["'[a-z]+'"]), Tokens.of(list(given.encode()),
                                                       [c.encode() for c in given]))  # fmt: skip
    steps = [one(len(given) + n, c) for n, c in enumerate("cret' 'q' y\nz")]
    ready = [s for step in steps[:-2] for s in hide.ready(step)]
    assert ready == [], "a line is judged as a whole"
    ready = [s for step in [*steps[-2:], None] for s in hide.ready(step)]
    assert b"".join(s.tokens.data for s in ready) == b"  y\nz"
    assert [s.start for s in ready] == [s.start for s in steps]


def test_a_pause_answers_and_keeps_nothing(serve: Callable[..., Served]) -> None:
    served, client = served_with(serve)
    ask: dict[str, Any] = {"model": "bundled", "prompt": PROMPT, "max_tokens": 9, "temperature": 0}
    client.completions.create(**ask)
    assert served.idle() and len(branches(served)) == 1
    told = served.client.patch("/api/recorder", json={"paused": True}).json()
    assert told["paused"] and told["recorded"] == 1
    assert client.completions.create(**ask).choices[0].text == MADE[:9]
    parts = client.completions.create(**ask, stream=True)
    assert "".join(p.choices[0].text for p in parts) == MADE[:9]
    assert served.idle() and len(branches(served)) == 1
    served.client.patch("/api/recorder", json={"paused": False})
    client.completions.create(**ask)
    assert served.idle() and len(branches(served)) == 2
    told = served.client.get("/api/recorder").json()
    assert (told["on"], told["requests"], told["recorded"]) == (True, 4, 2)


def test_it_cannot_be_paused_where_it_is_off(served: Served) -> None:
    assert served.client.get("/api/recorder").json()["on"] is False
    assert served.client.patch("/api/recorder", json={"paused": True}).status_code == 409


def test_old_sessions_are_forgotten_for_good(tmp_path: Path) -> None:
    recorder = Recorder(keep=7)
    with_model = Model(Talking())
    store = Store(tmp_path)
    try:
        old, kept, fresh = (store.new_session(t).id for t in (
            "Recorder: llm, 2026-01-01", "my own", "Recorder: llm, 2026-01-09"))  # fmt: skip
        for session in (old, kept, fresh):
            trace = with_model.generate("a", max_new_tokens=2)
            store.begin(session, trace.origin).finish(trace, "length")
        with sqlite3.connect(tmp_path / "tokenscope.sqlite3") as c:
            for session in (old, kept):
                c.execute("UPDATE sessions SET updated = ? WHERE id = ?",
                          (now(timedelta(days=8)), session))  # fmt: skip
        assert recorder.forget(store) == 1
        assert {s.id for s in store.sessions()} == {kept, fresh}
        assert len(list((tmp_path / "traces").glob("*"))) == 2
        assert Recorder().forget(store) == 0
    finally:
        store.close()
