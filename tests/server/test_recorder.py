"""The recorder with the official client: its shapes pass, and what it makes are branches."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import openai
import pytest

from tests.server.conftest import TOKEN, Servers
from tests.server.test_guard import paths
from tokenscope.backends.scripted import ScriptedBackend, hashed, saying
from tokenscope.runs.model import Model
from tokenscope.server.models import Models
from tokenscope.server.recorder.state import Recorder, RecorderLimits
from tokenscope.trace.edits import Ban
from tokenscope.trace.tokens import Tokens

if TYPE_CHECKING:
    from conftest import Served

KEY = "fedcba9876543210" * 4
SAYS = "def f(x):\n    return größe ✓ x\n\nprint(f(1))\n"


class Talking(ScriptedBackend):
    """A script with a chat template and infill marks."""

    def __init__(self, script: Any = hashed) -> None:
        super().__init__(script, context=20_000)
        self.abilities = replace(self.abilities, chat=True, infill=True)
        self.info = replace(self.info, name="scripted talker")

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        return self.encode("".join(f"<{m['role']}>{m['content']}\n" for m in messages))

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        return self.encode(f"{suffix}|{prefix}")

    def infill_stops(self) -> frozenset[int]:
        return frozenset()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    servers = Servers(tmp_path_factory.mktemp("recorder"))
    yield servers.start(
        models=Models.of_one(Model(Talking())), recorder=KEY,
        house={"recorder": Recorder(RecorderLimits(rate=10_000))},
    )  # fmt: skip
    servers.stop()


@pytest.fixture
def client(recording: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{recording.address}/v1", api_key=KEY, max_retries=0, timeout=30
    ) as made:
        yield made


def branches(served: Served) -> list[dict[str, Any]]:
    """Every branch that the recorder made."""
    found = []
    for session in served.client.get("/api/sessions").json():
        if session["title"].startswith("Recorder: "):
            found += served.client.get(f"/api/sessions/{session['id']}").json()["nodes"]
    return found


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["bundled"]
    assert client.models.retrieve("tokenscope").id == "bundled"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.models.retrieve("gpt-4o")


def test_a_completion_is_a_branch_with_all_its_signals(
    recording: Served, client: openai.OpenAI
) -> None:
    before = {b["id"] for b in branches(recording)}
    made = client.completions.create(
        model="bundled", prompt="def f(", max_tokens=9, temperature=0, logprobs=3, seed=7
    )
    choice = made.choices[0]
    assert choice.logprobs is not None and choice.finish_reason == "length"
    assert made.usage is not None and made.usage.completion_tokens == 9
    assert made.usage.prompt_tokens == len("def f(")
    assert recording.idle()
    (node,) = [b for b in branches(recording) if b["id"] not in before]
    trace = recording.house.store.trace(node["id"])
    n = trace.n_prompt
    assert trace.tokens.slice(n, len(trace)).data.decode("utf-8", "replace") == choice.text
    assert choice.logprobs.token_logprobs == pytest.approx(trace.column("logprob")[n:].tolist())
    top = choice.logprobs.top_logprobs
    assert top is not None
    for t, row in enumerate(top):
        assert sorted(row.values(), reverse=True) == pytest.approx(
            trace.alternatives.logprobs[n + t, :3].tolist()  # type: ignore[union-attr]
        )
    assert trace.attention is not None and trace.origin.seed == 7
    again = client.completions.create(
        model="bundled", prompt="def f(", max_tokens=9, temperature=0, seed=8
    )
    assert again.choices[0].text == choice.text and again.choices[0].logprobs is None


def test_streams_say_the_same_as_whole_answers(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {"model": "bundled", "prompt": "x = ", "max_tokens": 30, "seed": 3}
    want = client.completions.create(**ask, logprobs=2)
    parts = list(client.completions.create(**ask, logprobs=2, stream=True))
    assert "".join(p.choices[0].text for p in parts) == want.choices[0].text
    held = [p.choices[0].logprobs for p in parts if p.choices[0].logprobs is not None]
    for name in ("tokens", "token_logprobs", "text_offset"):
        flat = [x for one in held for x in getattr(one, name)]
        assert flat == getattr(want.choices[0].logprobs, name), name
    assert parts[-1].choices[0].finish_reason == want.choices[0].finish_reason
    assert len(parts) > 5, "it comes in parts"


def test_chat_streams_with_logprobs_and_usage(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": "bundled", "messages": [{"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_completion_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 4,
    }  # fmt: skip
    want = client.chat.completions.create(**ask)
    said = want.choices[0].message.content
    parts = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == said
    assert parts[-1].usage is not None and parts[-1].usage.completion_tokens == 12
    rows = [r for p in parts if p.choices and p.choices[0].logprobs
            for r in p.choices[0].logprobs.content or []]  # fmt: skip
    assert want.choices[0].logprobs is not None
    assert rows == want.choices[0].logprobs.content
    assert all(len(r.top_logprobs) == 4 and r.logprob <= 0 for r in rows)


def test_choices_stops_seeds_biases_and_infill(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {"model": "bundled", "prompt": "a", "max_tokens": 20}
    two = client.completions.create(**ask, n=3, seed=5)
    texts = [c.text for c in two.choices]
    assert [c.index for c in two.choices] == [0, 1, 2] and len(set(texts)) == 3
    assert client.completions.create(**ask, seed=6).choices[0].text == texts[1]
    stop = next(c for c in texts[0][3:] if c.isascii())
    cut = client.completions.create(**ask, seed=5, stop=stop)
    assert cut.choices[0].text == texts[0][: texts[0].index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    other = client.completions.create(**ask, seed=5, logit_bias={str(ord(stop)): -100})
    assert stop not in other.choices[0].text
    sure = client.completions.create(**ask, seed=5, logit_bias={"98": 100})
    assert sure.choices[0].text == "b" * 20
    many = client.completions.create(model="bundled", prompt=["a", "b"], max_tokens=4, seed=1)
    assert len(many.choices) == 2
    ids = client.completions.create(model="bundled", prompt=[97], max_tokens=20, seed=5)
    assert ids.choices[0].text == texts[0]
    filled = client.completions.create(
        model="bundled", prompt="a(", suffix=")", max_tokens=3, seed=5
    )  # without a seed it may end of itself
    assert filled.choices[0].finish_reason == "length"


def test_a_response_format_is_kept_to(recording: Served, client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [True, 12]}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    for seed in range(4):
        made = client.chat.completions.create(
            model="bundled", messages=[{"role": "user", "content": "json"}], seed=seed,
            max_completion_tokens=400, temperature=0.7,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )  # fmt: skip
        assert made.choices[0].finish_reason == "stop"
        assert json.loads(made.choices[0].message.content or "") in ({"a": True}, {"a": 12})
    assert recording.idle()
    trace = recording.house.store.trace(branches(recording)[-1]["id"])
    assert [e.kind for e in trace.origin.segments[-1].edits] == ["json_schema"]


def test_edits_of_the_recorder_hold_for_all(serve: Callable[..., Served]) -> None:
    served = serve(
        models=Models.of_one(Model(Talking())), recorder=KEY,
        house={"recorder": Recorder(edits=[Ban(tuple(range(100, 256)))])},
    )  # fmt: skip
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key=KEY, max_retries=0) as client:
        made = client.completions.create(
            model="bundled", prompt="a", max_tokens=40, logit_bias={"98": -100, "99": 3}
        )
    assert made.choices[0].text and max(made.choices[0].text.encode()) < 100
    assert "b" not in made.choices[0].text


def test_an_echo_scores_a_text(recording: Served, client: openai.OpenAI) -> None:
    """What evaluation harnesses measure: the logprobs of a text that is given."""
    text = "for i in range(3):\n    größe"
    made = client.completions.create(
        model="bundled", prompt=text, max_tokens=0, echo=True, logprobs=1
    )
    choice = made.choices[0]
    assert choice.text == text and choice.logprobs is not None
    want = recording.house.model.score(text).column("logprob")
    held = choice.logprobs.token_logprobs or []
    assert held[0] is None
    assert held[1:] == pytest.approx(want[1:].tolist())
    assert (choice.logprobs.text_offset or [])[:3] == [0, 1, 2]


def test_characters_and_stops_are_never_cut(serve: Callable[..., Served]) -> None:
    served = serve(
        models=Models.of_one(Model(Talking(saying("?" + SAYS)))), recorder=KEY,
        house={"recorder": Recorder()},
    )  # fmt: skip
    url = f"{served.address}/v1"
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        ask: dict[str, Any] = {"model": "bundled", "prompt": "?", "max_tokens": 90,
                               "temperature": 0}  # fmt: skip
        parts = list(client.completions.create(**ask, stream=True))
        assert "".join(p.choices[0].text for p in parts) == SAYS
        assert not any("\ufffd" in p.choices[0].text for p in parts)
        assert parts[-1].choices[0].finish_reason == "stop"
        for stop in ("größe", "\n\nprint", "✓", "xy"):
            parts = list(client.completions.create(**ask, stream=True, stop=["zz", stop]))
            assert "".join(p.choices[0].text for p in parts) == SAYS.split(stop)[0]


def test_what_is_wrong_is_said_in_their_shape(recording: Served, client: openai.OpenAI) -> None:
    good: dict[str, Any] = {"model": "bundled", "prompt": "a", "max_tokens": 1}
    for bad, param in (
        ({"temperature": -1}, "temperature"), ({"n": 0}, "n"), ({"logprobs": 21}, "logprobs"),
        ({"presence_penalty": 1.0}, "presence_penalty"), ({"best_of": 3}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"), ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": [999]}, "token id"), ({"prompt": []}, None),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(**{**good, **bad})
        assert caught.value.type == "invalid_request_error"
        assert param is None or caught.value.param == param, bad
    chat: dict[str, Any] = {"model": "bundled", "messages": [{"role": "user", "content": "a"}]}
    for bad in ({"tools": [{"type": "function"}]}, {"response_format": {"type": "xml"}},
                {"response_format": {"type": "json_schema"}}, {"top_logprobs": 2}):  # fmt: skip
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**{**chat, **bad})
    with pytest.raises(openai.NotFoundError):
        client.completions.create(**{**good, "model": "gpt-4o"})
    with pytest.raises(openai.BadRequestError, match="fit"):
        client.completions.create(**{**good, "prompt": "a" * 30_000})
    answer = httpx2.post(f"{recording.address}/v1/completions", content=b"{", headers={
        "authorization": f"Bearer {KEY}", "content-type": "application/json"})  # fmt: skip
    assert answer.status_code == 400 and answer.json()["error"]["message"] == "body: is not JSON"


def test_a_client_that_leaves_ends_its_run(
    serve: Callable[..., Served], slowly: Callable[[float], Any]
) -> None:
    served = serve(
        models=Models.of_one(Model(Talking(slowly(0.01)))), recorder=KEY,
        house={"recorder": Recorder()}, unattended=0.0,
    )  # fmt: skip
    ask = {"model": "bundled", "prompt": "a", "max_tokens": 2000, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx2.stream("POST", f"{served.address}/v1/completions", json=ask, headers=headers) as a:
        for n, _ in enumerate(a.iter_lines()):
            if n > 250:  # over a second: it is watched by its client, though by no page
                break
    assert served.idle()
    ask["stream"] = False
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{served.address}/v1/completions", json=ask, headers=headers, timeout=0.5)
    assert served.idle()
    assert {b["finish"] for b in branches(served)} == {"cancelled"}


def test_many_clients_at_once_lose_nothing(recording: Served) -> None:
    before = len(branches(recording))
    texts: dict[int, str] = {}

    def work(who: int) -> None:
        with openai.OpenAI(base_url=f"{recording.address}/v1", api_key=KEY, max_retries=0) as own:
            for n in range(4):
                seed = who * 100 + n
                made = own.completions.create(
                    model="bundled", prompt=f"{who}", max_tokens=5, seed=seed, temperature=0
                )
                texts[seed] = made.choices[0].text

    threads = [threading.Thread(target=work, args=(who,)) for who in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 48
    assert recording.idle()
    made = branches(recording)[before:]
    assert len(made) == 48 and {b["status"] for b in made} == {"done"}
    for who in range(12):
        assert len({texts[who * 100 + n] for n in range(4)}) == 1, "the same question, greedy"


def test_limits(serve: Callable[..., Served], slowly: Callable[[float], Any]) -> None:
    tight = Recorder(RecorderLimits(rate=5, waiting=1, seconds=0.3, tokens=50), places=1)
    served = serve(models=Models.of_one(Model(Talking(slowly(0.01)))), recorder=KEY,
                   house={"recorder": tight})  # fmt: skip
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key=KEY, max_retries=0) as client:
        ask: dict[str, Any] = {"model": "bundled", "prompt": "a", "max_tokens": 5000}
        slow = iter(client.completions.create(**ask, stream=True))
        next(slow)
        with pytest.raises(openai.RateLimitError, match="in time"):
            client.completions.create(**ask)
        assert sum(len(p.choices[0].text) for p in slow) <= 50
        for _ in range(3):
            client.completions.create(**{**ask, "max_tokens": 1})
        with pytest.raises(openai.RateLimitError, match="minute") as caught:
            client.completions.create(**ask)
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 60


# --- the guard --------------------------------------------------------------------------------
def test_its_routes_open_by_its_own_key_only(recording: Served) -> None:
    seen = [(m, p) for m, p in paths(recording) if p.startswith("/v1")]
    assert len(seen) == 4
    signed = {"authorization": f"Bearer {KEY}"}
    cookie = {"cookie": f"{recording.access.cookie}={recording.access.pass_}"}
    with httpx2.Client(base_url=recording.address) as client:
        for method, path in seen:
            for headers, status in (
                ({}, 401), ({"authorization": f"Bearer {TOKEN}"}, 401), (cookie, 401),
                ({"authorization": KEY}, 401), ({**signed, "host": "evil.example"}, 421),
                ({**signed, "origin": recording.address}, 403),
                ({**signed, "origin": "http://evil.example"}, 403),
                ({**signed, "sec-fetch-site": "same-origin"}, 403),
                ({**cookie, "origin": recording.address}, 403),
            ):  # fmt: skip
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == status, (method, path, headers)
                assert "set-cookie" not in answer.headers
                assert not [h for h in answer.headers if h.startswith("access-control")]
            answer = client.request(method, path, headers=signed)
            assert answer.status_code in (200, 400, 404, 415)
        for method, path in paths(recording):
            if not path.startswith("/v1"):
                assert client.request(method, path, headers=signed).status_code == 401


def test_off_unless_switched_on(served: Served) -> None:
    with httpx2.Client(base_url=served.address) as client:
        for key in (KEY, TOKEN):
            headers = {"authorization": f"Bearer {key}"}
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code in (401, 404)
            answer = client.post("/v1/completions", json={"prompt": "a"}, headers=headers)
            assert answer.status_code in (401, 404, 405)
    assert not [p for _, p in paths(served) if p.startswith("/v1")]


def test_numbers_are_json() -> None:
    from tokenscope.server.recorder import shapes

    assert shapes.number(float("nan")) is None
    assert shapes.number(float(-np.inf)) == shapes.LEAST
    assert shapes.spelt(b"\xe2\x9c") == "bytes:\\xe2\\x9c"


def test_the_page_sees_the_last_requests(recording: Served) -> None:
    """The latest first, with where each was written, and no text of it."""
    client = openai.OpenAI(
        api_key=KEY, base_url=f"{recording.address}/v1", max_retries=0,
        default_headers={"user-agent": "my-editor/2.1"},
    )  # fmt: skip
    client.completions.create(model="tokenscope", prompt="sesame", max_tokens=3, n=2)
    for _ in client.chat.completions.create(
        model="tokenscope", messages=[{"role": "user", "content": "sesame"}], stream=True,
        max_tokens=4,
    ):  # fmt: skip
        pass
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="tokenscope", prompt="a" * 30_000, max_tokens=4)
    info = recording.client.get("/api/recorder").json()
    failed, chat, both = info["calls"][:3]
    assert [c["kind"] for c in (failed, chat, both)] == ["completion", "chat", "completion"]
    assert (failed["state"], failed["error"], failed["node"]) == ("failed", "too_large", None)
    assert (chat["state"], chat["streamed"], chat["client"]) == ("done", True, "my-editor")
    assert (both["choices"], both["tokens"], both["finish"]) == (2, 6, "length")
    for call in (chat, both):
        node = recording.client.get(f"/api/nodes/{call['node']}").json()["node"]
        assert node["session"] == call["session"] and call["seconds"] >= 0
        assert call["prompt_tokens"] > 0
    assert "sesame" not in json.dumps(info)
