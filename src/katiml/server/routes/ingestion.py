"""`/api/ingestion/*` and `/events`: records on their way in."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import orjson
from fastapi import APIRouter, Depends, Header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from katiml.errors import InvalidInput
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import BodyError, Ingest, decode, schema_of
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
    """The body: an `Ingest`, or a dict where the records need a more lenient look."""
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
        raise BodyError(
            f"the body has {' and '.join(given) or 'nothing to ingest'}",
            hint="send one of: records, url, urls",
        )
    if wanted.records is not None:
        upload = lake.ingest(_records(wanted.records), idempotency_key=idempotency_key).wait()
        return json_response({**upload.to_dict(), "statusCode": 200})
    upload = lake.ingest(
        [wanted.url] if wanted.url is not None else wanted.urls,
        idempotency_key=idempotency_key,
        offset=wanted.offset,
        limit=wanted.limit,
        allow_private_urls=settings.allow_private_urls,
    )
    return json_response({**upload.to_dict(), "statusCode": 200})


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


@router.get("/api/ingestion/executions", summary="The uploads, newest first")
def executions(lake: CallerLake, limit: int = 100, offset: int = 0) -> Response:
    if not (0 <= limit <= 10_000 and 0 <= offset < 2**63):
        raise InvalidInput("limit is 0 to 10000, offset 0 or more")
    found = lake.uploads.list(limit=limit, offset=offset)
    return json_response([upload.to_dict() for upload in found])


@router.get("/api/ingestion/executions/{upload_id}", summary="The state of an upload")
def execution(lake: CallerLake, upload_id: str) -> Response:
    return json_response(lake.uploads.get(upload_id).to_dict())


@router.get(
    "/api/ingestion/executions/{upload_id}/rejected",
    summary="The rejected records: as they were sent, or with line, path and reason",
)
def rejected(lake: CallerLake, upload_id: str, reasons: bool = True) -> Response:
    found = lake.uploads.get(upload_id).rejected
    headers = {"Content-Disposition": f'attachment; filename="rejected-{upload_id[:36]}.ndjson"'}
    return StreamingResponse(
        _rejected_lines(found, reasons=reasons), media_type="application/x-ndjson", headers=headers
    )


def _rejected_lines(rejected: Any, *, reasons: bool) -> Iterator[bytes]:
    for one in rejected:
        if reasons:
            yield orjson.dumps(one if isinstance(one, dict) else msgspec.to_builtins(one)) + b"\n"
        else:
            yield one.record.encode() + b"\n"


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


def _records(records: list[Any]) -> Any:
    """Records as the lines of a file: only the check of each makes Python objects of it."""
    if not all(isinstance(record, msgspec.Raw) for record in records):
        return records
    # A raw newline in JSON is white space: in strings it is escaped.
    lines = (bytes(record).replace(b"\n", b" ").replace(b"\r", b" ") for record in records)
    return io.BytesIO(b"\n".join(lines))
