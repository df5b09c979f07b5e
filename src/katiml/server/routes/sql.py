"""`/api/sql`: one read-only statement over the caller's own rows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from katiml.schema import RECORD_TABLES, TABLES
from katiml.server.answers import json_chunks, json_response, rows_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import Sql, body, schema_of

__all__ = ["router"]

router = APIRouter(prefix="/api/sql", tags=["sql"])


@router.get("/tables", summary="The tables that statements can name, with their columns")
def tables(lake: CallerLake) -> Response:  # noqa: ARG001 - whoever asks has to have a key
    shown = {name: [column.name for column in TABLES[name].visible] for name in RECORD_TABLES}
    return json_response(shown)


@router.post("", summary="Rows of one read-only statement", openapi_extra=schema_of(Sql))
def sql(request: Request, lake: CallerLake, wanted: Annotated[Any, Depends(body(Sql))]) -> Response:
    return rows_response(
        request,
        lambda: json_chunks(lake.sql(wanted.query, form="batches")),
        lambda: lake.sql(wanted.query, form="batches"),
    )
