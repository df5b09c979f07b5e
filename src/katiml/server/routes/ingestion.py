"""`/api/ingestion/*` and `/events`: records on their way in."""

from __future__ import annotations

import json
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from katiml.errors import InvalidInput
from katiml.ingest import Source, ingest_records
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import Ingest, decode, schema_of, wrong_body
from katiml.server.executions import as_answer, as_execution
from katiml.server.uploads import store_file

__all__ = ["UPLOAD_PATH", "router"]

UPLOAD_PATH = "/api/ingestion/upload"

router = APIRouter(tags=["ingestion"])
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="The same key again answers with the first upload instead of a second one",
    ),
]


async def _read(request: Request) -> Any:
    """The body, decoded in a thread: it may be large."""
    return await run_in_threadpool(_parse, await request.body())


Body = Annotated[Any, Depends(_read)]


@router.post(
    "/events",
    summary="Ingest records now, or URLs in the background",
    openapi_extra=schema_of(Ingest),
)
@router.post(
    "/api/ingestion/ingest",
    summary="Ingest records now, or URLs in the background",
    openapi_extra=schema_of(Ingest),
)
def ingest(
    request: Request, lake: CallerLake, wanted: Body, idempotency_key: IdempotencyKey = None
) -> Response:
    settings = request.app.state.settings
    given = [name for name in ("records", "url", "urls") if getattr(wanted, name) is not None]
    if len(given) != 1:
        raise wrong_body(
            f"the body has {' and '.join(given) or 'nothing to ingest'}",
            "send one of: records, url, urls",
        )
    if wanted.records is not None:
        upload = ingest_records(lake.scope, wanted.records, idempotency_key=idempotency_key)
    else:
        urls = [wanted.url] if wanted.url is not None else wanted.urls
        upload = lake.ingest(
            [Source(url, wanted.offset or 0, wanted.limit) for url in urls],
            idempotency_key=idempotency_key,
            trusted=False,
            allow_private=settings.allow_private_urls,
        )
    return json_response(as_answer(upload))


@router.post(
    UPLOAD_PATH,
    summary="Send a file; the url in the answer goes to /api/ingestion/ingest",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                }
            },
        }
    },
)
async def upload(request: Request, lake: CallerLake) -> Response:
    scope = lake.scope

    def store(file: Any) -> str:
        return scope.store.objects.put(scope.organization_id, file)

    content_type = request.headers.get("content-type", "")
    object_id = await store_file(content_type, request.stream(), store)
    return json_response({"url": f"object://{object_id}"})


@router.get("/api/ingestion/executions", summary="The latest uploads, newest first")
def executions(lake: CallerLake, limit: Annotated[int, Query(ge=0, le=10_000)] = 100) -> Response:
    return json_response([as_execution(upload) for upload in lake.uploads.list(limit)])


@router.get("/api/ingestion/executions/{upload_id}", summary="The state of an upload")
def execution(lake: CallerLake, upload_id: str) -> Response:
    return json_response(as_execution(lake.uploads.get(upload_id)))


@router.post(
    "/api/ingestion/executions/{upload_id}/cancel",
    summary="Stop an upload; what has landed stays",
)
def cancel(lake: CallerLake, upload_id: str) -> Response:
    return json_response(as_execution(lake.uploads.get(upload_id).cancel()))


@router.get(
    "/api/ingestion/executions/{upload_id}/rejected",
    summary="The rejected records with source, line, path and reason; or only as they were sent",
)
def rejected(lake: CallerLake, upload_id: str, reasons: bool = True) -> Response:
    lines = lake.uploads.get(upload_id).rejected_lines()
    if not reasons:
        lines = (orjson.loads(line)["record"].encode() + b"\n" for line in lines)
    name = f"rejected-{upload_id}.ndjson"
    return StreamingResponse(
        lines,
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _parse(data: bytes) -> Any:
    try:
        return decode(data, Ingest)
    except InvalidInput:
        # NaN and Infinity are no JSON, but Python writes them: then only their records are wrong.
        if b"NaN" not in data and b"Infinity" not in data:
            raise
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or list(found) != ["records"]:
            raise
        return Ingest(records=found["records"])
