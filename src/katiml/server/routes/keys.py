"""`/api/api-key`: the keys of the caller's organization."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import NewApiKey, body, schema_of

__all__ = ["router"]

router = APIRouter(prefix="/api/api-key", tags=["keys"])


@router.get("", summary="The keys, without their secrets")
def list_keys(lake: CallerLake) -> Response:
    return json_response(lake.keys.list())


@router.post(
    "", summary="Make a key; its secret is shown this once", openapi_extra=schema_of(NewApiKey)
)
def create_key(lake: CallerLake, wanted: Annotated[Any, Depends(body(NewApiKey))]) -> Response:
    made = lake.keys.create(wanted.name)
    return json_response({"id": made.id, "name": wanted.name, "key": made.secret})


@router.delete("/{key_id}", summary="Delete a key; whoever uses it is refused from then on")
def delete_key(lake: CallerLake, key_id: str) -> Response:
    lake.keys.delete(key_id)
    return json_response({"id": key_id})
