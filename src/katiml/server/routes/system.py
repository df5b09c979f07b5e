"""`/` and `/health`: no key needed, nothing of anybody's data shown."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import katiml
from katiml.errors import KatiMLError
from katiml.server.answers import json_response
from katiml.server.webapp import page

__all__ = ["router"]

router = APIRouter()


@router.get("/", include_in_schema=False)
def home() -> Response:
    return page()


@router.get("/health", tags=["system"], summary="Whether the lake answers; needs no key")
def health(request: Request) -> Response:
    try:
        request.app.state.lake.scope.store.query("SELECT 1 FROM lake.settings LIMIT 1")
    except KatiMLError as error:
        found = {"status": "error", "version": katiml.__version__, "lake": error.code}
        return json_response(found, status=503)
    return json_response({"status": "ok", "version": katiml.__version__, "lake": "ok"})
