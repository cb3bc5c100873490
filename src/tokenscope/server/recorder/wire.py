"""What clients send, in OpenAI's shapes. Fields that change nothing here are let be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tokenscope.server.wire import Finite, StopString, Text

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=100_000)]
Number = Annotated[Finite, Field(ge=-2, le=2)]
MOST_CHOICES = 16
MOST_TOP = 20


class Asked(BaseModel):
    """What both kinds of completions have in common."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str, Field(max_length=200)] = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=10)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Finite, Field(gt=0, le=10)] | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: dict[str, Finite] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    response_format: ResponseFormat | None = None


class JsonSchemaFormat(BaseModel):
    """A named schema; its text is looked at by the grammar that is made of it."""

    model_config = ConfigDict(extra="ignore")

    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """What an answer must be: ``text``, any ``json_object``, or JSON that fits a schema."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(BaseModel):
    """``include_usage``: one more event at the end says how many tokens there were."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class CompletionRequest(Asked):
    """``POST /v1/completions``. A prompt is a text, ids, or a list of either."""

    prompt: (
        Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Ids | Annotated[list[Ids], Field(min_length=1, max_length=64)]
    )  # fmt: skip
    suffix: Text | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None


class TextPart(BaseModel):
    """A part of a message; only text is taken."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """One message; fields that only tools need are let be."""

    model_config = ConfigDict(extra="ignore")

    role: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    content: Text | Annotated[list[TextPart], Field(max_length=1000)]

    def plain(self) -> dict[str, str]:
        """Role and text."""
        whole = self.content
        text = whole if isinstance(whole, str) else "".join(part.text for part in whole)
        return {"role": self.role, "content": text}


class ChatRequest(Asked):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
