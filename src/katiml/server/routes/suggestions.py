"""`/api/suggestions/*`: what could be typed next into a filter."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from katiml.query.suggest import suggest_fields, suggest_values
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import KeySuggestions, ValueSuggestions, body, schema_of

__all__ = ["router"]

router = APIRouter(prefix="/api/suggestions", tags=["suggestions"])


@router.post(
    "/get-keys-suggestions",
    summary="Fields whose name holds what was typed",
    openapi_extra=schema_of(KeySuggestions),
)
def keys(lake: CallerLake, wanted: Annotated[Any, Depends(body(KeySuggestions))]) -> Response:
    return json_response(suggest_fields(seen(lake, wanted), wanted.key))


@router.post(
    "/get-values-suggestions",
    summary="Values of a field that hold what was typed",
    openapi_extra=schema_of(ValueSuggestions),
)
def values(lake: CallerLake, wanted: Annotated[Any, Depends(body(ValueSuggestions))]) -> Response:
    return json_response(suggest_values(seen(lake, wanted), wanted.key, wanted.value))
