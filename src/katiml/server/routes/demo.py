"""`/api/demo`: the demo data, into the caller's own lake, with its progress."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from katiml.server.answers import json_response
from katiml.server.auth import CallerLake

__all__ = ["router"]

router = APIRouter(prefix="/api/demo", tags=["demo"])


@router.get("", summary="How far loading the demo data is")
def state(request: Request, lake: CallerLake) -> Response:
    return json_response(request.app.state.demo.state(lake.organization_id))


@router.post("", summary="Load 1,797 handwritten digits with a model's predictions")
def load(request: Request, lake: CallerLake) -> Response:
    return json_response(request.app.state.demo.start(lake))
