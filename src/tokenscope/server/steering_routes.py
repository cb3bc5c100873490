"""Steering vectors: list them, make one, take one away. Thin: parse, call, format."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from tokenscope.control import Control
from tokenscope.decode.vectors import SteeringVector
from tokenscope.runs.steering import steering_vector
from tokenscope.server import steering_wire as wire
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import worked

router = APIRouter(prefix="/api")
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/steering")
def steering_list(house: TheHouse) -> list[wire.SteeringVectorInfo]:
    """The vectors that are kept, of all models, by name."""
    return [_info(house, v) for v in house.models.vectors.kept()]


@router.post("/steering", status_code=201)
async def steering_route(
    body: wire.SteeringRequest, request: Request, house: TheHouse
) -> wire.SteeringVectorInfo:  # fmt: skip
    """Make a vector and keep it in the data folder; one pass over each prompt."""

    def work(control: Control) -> SteeringVector:
        with house.models.lease(house.models.get(body.model)) as model:
            return steering_vector(
                model, body.positive, body.negative, body.layer, body.over, name=body.name,
                control=control,
            )  # fmt: skip

    return _info(house, await worked(request, house, work))


@router.delete("/steering/{digest}", status_code=204)
def steering_delete(digest: Digest, house: TheHouse) -> None:
    """Take a vector away for good; branches that were steered by it cannot be made again."""
    house.models.vectors.remove(digest)


def _info(house: House, held: SteeringVector) -> wire.SteeringVectorInfo:
    offers = [
        o.id for o in house.models.all() if o.model is not None and o.digest == held.model_digest
    ]
    told = held.provenance
    return wire.SteeringVectorInfo(
        digest=held.digest, name=held.name, layer=held.layer, norm=held.norm,
        residual=held.residual, ratio=held.norm / held.residual if held.residual else 0.0,
        size=len(held.values), model=str(told.get("model", "")), model_digest=held.model_digest,
        offer=offers[0] if offers else None, over=str(told.get("over", "")),
        positive=int(told.get("positive", 0)), negative=int(told.get("negative", 0)),
        prompts_sha256=str(told.get("prompts_sha256", "")),
    )  # fmt: skip
