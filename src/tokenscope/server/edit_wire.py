"""The wire of edits: one shape per kind, and what a form needs to know to ask for one.

The shapes are the edits of ``trace`` with limits; a test holds that their fields are the same.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Position = Annotated[int, Field(ge=0, le=2**31 - 1)]
Nats = Annotated[Finite, Field(ge=-10_000, le=10_000)]
String = Annotated[str, Field(min_length=1, max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Source = Annotated[str, Field(min_length=1, max_length=100_000)]
Ids = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1, max_length=10_000)
]
Strings = Annotated[list[String], Field(min_length=1, max_length=1000)]
Names = Annotated[list[Name], Field(max_length=1000)]
Layer = Annotated[int, Field(ge=0, le=10_000)]
Pair = Annotated[list[Position], Field(min_length=2, max_length=2)]
Cover = Annotated[Finite, Field(ge=0.5, lt=1)]
Scope = Literal["text", "generated"]


class EditShape(BaseModel):
    """What every edit has: from which token on it is in force, and up to which (null: the end)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    at: Annotated[Position, Field(title="From token")] = 0
    until: Annotated[Position | None, Field(title="Up to token")] = None


class BanShape(EditShape):
    """Ban tokens: none of these token ids can be drawn."""

    kind: Literal["ban"]
    ids: Annotated[Ids, Field(title="Token ids")]


class BiasShape(EditShape):
    """Bias tokens: make these token ids likelier (above 0) or less likely (below)."""

    kind: Literal["bias"]
    ids: Annotated[Ids, Field(title="Token ids")]
    amount: Annotated[Nats, Field(title="Nats", description="Added to the logit of each.")]


class BanTextShape(EditShape):
    """Ban text: these strings never come to stand in the text, however they are cut into tokens."""

    kind: Literal["ban_text"]
    strings: Annotated[Strings, Field(title="Strings")]


class BiasTextShape(EditShape):
    """Bias text: make these strings likelier (above 0) or less likely (below)."""

    kind: Literal["bias_text"]
    strings: Annotated[Strings, Field(title="Strings", max_length=100)]
    amount: Annotated[
        Nats, Field(title="Nats", description="In all, shared among the tokens of the string.")
    ]


class RequireShape(EditShape):
    """Require text: the string must be written."""

    kind: Literal["require"]
    string: Annotated[str, Field(title="String", min_length=1, max_length=200)]
    within: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        Field(title="Within tokens", description="Empty: the text must end with it."),
    ] = None


class RegexShape(EditShape):
    """Regular expression: what is generated matches it as a whole."""

    kind: Literal["regex"]
    pattern: Annotated[Source, Field(title="Expression")]


class JsonSchemaShape(EditShape):
    """JSON: what is generated is a JSON document that fits the schema."""

    kind: Literal["json_schema"]
    # "schema" is a method of every shape; on the wire the field has its plain name
    schema_: Annotated[Source, Field(title="JSON schema", alias="schema")]


class GrammarShape(EditShape):
    """Grammar: what is generated follows a grammar in Lark's notation."""

    kind: Literal["grammar"]
    lark: Annotated[Source, Field(title="Grammar")]


class ViableShape(EditShape):
    """Only viable Python: nothing that no Python program could begin with."""

    kind: Literal["viable"]
    scope: Annotated[
        Scope,
        Field(
            title="Looks at", description="The text with the prompt, or what is generated alone."
        ),
    ] = "text"
    cover: Annotated[
        Cover,
        Field(
            title="Cover", description="Tokens are judged until they hold this share of the mass."
        ),
    ] = 0.999


class BanCodeShape(EditShape):
    """Ban code: no import of these modules, no call of these functions, no match of a query."""

    kind: Literal["ban_code"]
    imports: Annotated[Names, Field(title="Modules", description="os also bans os.path.")] = []
    calls: Annotated[
        Names, Field(title="Calls", description="eval, os.system; *.execute: a method of anything.")
    ] = []
    query: Annotated[str, Field(title="tree-sitter query", max_length=10_000)] = ""
    language: Annotated[str, Field(title="Language", min_length=1, max_length=32)] = "python"
    scope: Annotated[Scope, Field(title="Looks at")] = "text"
    cover: Annotated[Cover, Field(title="Cover")] = 0.999


class AblateShape(EditShape):
    """Ablate: a head, an attention, an MLP or a layer gives something else than it computed."""

    kind: Literal["ablate"]
    part: Annotated[Literal["head", "attention", "mlp", "layer"], Field(title="Part")]
    layer: Annotated[Layer, Field(title="Layer")]
    head: Annotated[
        int, Field(title="Head", description="-1 unless the part is a head.", ge=-1, le=10_000)
    ] = -1
    how: Annotated[
        Literal["zero", "mean", "resample"],
        Field(title="By", description="Nothing, or what it gives on the reference text."),
    ] = "zero"
    reference: Annotated[str, Field(title="Reference text", max_length=200_000)] = ""
    seed: Annotated[int, Field(title="Seed", description="Of resample.", ge=0, le=2**53 - 1)] = 0


class AttendShape(EditShape):
    """Steer attention: attention to some of the prompt's tokens times a factor, 0 blocks it."""

    kind: Literal["attend"]
    factor: Annotated[Finite, Field(title="Factor", ge=0, le=10_000)]
    tokens: Annotated[
        list[Pair],
        Field(title="Tokens", description="Pairs: first, one past the last.", max_length=1000),
    ] = []
    text: Annotated[
        str, Field(title="Text", description="Every occurrence of it.", max_length=4000)
    ] = ""
    region: Annotated[
        str,
        Field(title="Region", description="A syntax kind or category: comment.", max_length=4000),
    ] = ""
    layers: Annotated[
        list[Layer], Field(title="Layers", description="Empty: all.", max_length=1000)
    ] = []
    heads: Annotated[
        list[Layer], Field(title="Heads", description="Empty: all.", max_length=1000)
    ] = []


class SteerShape(EditShape):
    """Steer: a kept steering vector is added to the residual stream before its layer."""

    kind: Literal["steer"]
    vector: Annotated[str, Field(title="Vector's digest", pattern=r"^[0-9a-f]{64}$")]
    strength: Annotated[
        Finite,
        Field(title="Strength", description="1: the difference of means.", ge=-10_000, le=10_000),
    ] = 1.0


class PatchShape(EditShape):
    """Patch: at the token "at", a part gives what it gave in another run."""

    kind: Literal["patch"]
    part: Annotated[Literal["head", "attention", "mlp", "residual"], Field(title="Part")]
    layer: Annotated[Layer, Field(title="Layer")]
    source: Annotated[
        Ids, Field(title="The other run's token ids", min_length=1, max_length=100_000)
    ]
    from_token: Annotated[Position, Field(title="Its token")]
    head: Annotated[
        int, Field(title="Head", description="-1 unless the part is a head.", ge=-1, le=10_000)
    ] = -1


AnyEdit = Annotated[
    BanShape | BiasShape | BanTextShape | BiasTextShape | RequireShape | RegexShape
    | JsonSchemaShape | GrammarShape | ViableShape | BanCodeShape | AblateShape | AttendShape
    | SteerShape | PatchShape,
    Field(discriminator="kind"),
]  # fmt: skip
INSIDE = frozenset({"ablate", "attend", "steer", "patch"})


class EditField(BaseModel):
    """One field of a form. ``type``: ``strings``, ``ids`` and ``spans`` (pairs) are lists; ``code``
    is a long text; ``low`` and ``high``: ends of a number; ``choices``: of a ``choice``;
    ``default`` as text, null where there is none."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    help: str
    type: Literal["integer", "number", "text", "code", "strings", "ids", "spans", "choice"]
    required: bool
    default: str | None
    low: float | None
    high: float | None
    choices: list[str]


class EditKind(BaseModel):
    """A kind of edit. ``inside``: it changes the model's inside, not what may be drawn."""

    model_config = ConfigDict(frozen=True)

    kind: str
    title: str
    help: str
    inside: bool
    fields: list[EditField]


class EditsInfo(BaseModel):
    """Every kind of edit that a decoding takes."""

    model_config = ConfigDict(frozen=True)

    kinds: list[EditKind]


def shapes() -> dict[str, type[EditShape]]:
    """Kind -> its shape."""
    members: tuple[type[EditShape], ...] = get_args(get_args(AnyEdit)[0])
    return {get_args(m.model_fields["kind"].annotation)[0]: m for m in members}


def kinds() -> list[EditKind]:
    """What a form needs, read from the shapes themselves."""
    return [_kind(name, shape) for name, shape in shapes().items()]


def _kind(name: str, shape: type[EditShape]) -> EditKind:
    title, _, said = (shape.__doc__ or "").partition(": ")
    held = shape.model_json_schema()
    required = set(held.get("required", ()))
    # what is particular to a kind goes first, where it is in force last
    names = [n for n in held["properties"] if n not in ("kind", "at", "until")]
    fields = [_field(n, held["properties"][n], n in required) for n in [*names, "at", "until"]]
    return EditKind(
        kind=name, title=title, help=said[:1].upper() + said[1:].replace("\n    ", " "),
        inside=name in INSIDE, fields=fields,
    )  # fmt: skip


def _field(name: str, held: dict[str, Any], required: bool) -> EditField:
    whole = {**next((o for o in held.get("anyOf", ()) if o.get("type") != "null"), {}), **held}
    default = None
    if not required and held.get("default") is not None:
        value = held["default"]
        default = value if isinstance(value, str) else json.dumps(value)
    return EditField(
        name=name, title=whole.get("title", name), help=whole.get("description", ""),
        type=_type(whole), required=required, default=default,
        low=whole.get("minimum"), high=whole.get("maximum", whole.get("exclusiveMaximum")),
        choices=list(whole.get("enum", ())),
    )  # fmt: skip


def _type(
    whole: dict[str, Any],
) -> Literal["integer", "number", "text", "code", "strings", "ids", "spans", "choice"]:
    if "enum" in whole:
        return "choice"
    kind = whole.get("type")
    if kind == "array":
        held = whole["items"].get("type")
        return "ids" if held == "integer" else "spans" if held == "array" else "strings"
    if kind == "string":
        return "code" if whole.get("maxLength", 0) >= 10_000 else "text"
    return "integer" if kind == "integer" else "number"
