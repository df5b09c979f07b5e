"""`/api/changes`, `/api/datapoints/restore | purge`, `/api/retention`: what happened, undone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from katiml.history import list_changes
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import NewRetention, Purge, Restore, Undo, body, schema_of

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["history"])

_OLDER_NAMES = {"dry_run": "dryRun", "created_at": "createdAt", "undone_by": "undoneBy"}


def _camel(value: Any) -> Any:
    """Names as the API writes them."""
    if isinstance(value, dict):
        return {_OLDER_NAMES.get(name, name): _camel(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_camel(own) for own in value]
    return value


@router.get("/changes", summary="What happened, the latest first")
def changes(
    lake: CallerLake,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 100,
    kind: Annotated[str | None, Query(max_length=100)] = None,
    upload: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    return json_response(_camel(list_changes(lake.scope, limit, kind=kind, upload=upload)))


@router.post(
    "/changes/undo",
    summary="Undo a change, an upload, or whatever was last",
    openapi_extra=schema_of(Undo),
)
def undo(lake: CallerLake, wanted: Annotated[Any, Depends(body(Undo))]) -> Response:
    done = lake.undo(wanted.change, dry_run=bool(wanted.dry_run))
    return json_response(_camel(done.as_dict()))


@router.post(
    "/datapoints/restore",
    summary="Put deleted datapoints back",
    openapi_extra=schema_of(Restore),
)
def restore(lake: CallerLake, wanted: Annotated[Any, Depends(body(Restore))]) -> Response:
    done = lake.restore(
        wanted.filters,
        ids=wanted.ids,
        change=wanted.change,
        all=bool(wanted.all),
        dry_run=bool(wanted.dry_run),
    )
    return json_response(_camel(done.as_dict()))


@router.post(
    "/datapoints/purge",
    summary="Delete datapoints for good",
    openapi_extra=schema_of(Purge),
)
def purge(lake: CallerLake, wanted: Annotated[Any, Depends(body(Purge))]) -> Response:
    done = lake.purge(
        wanted.filters, ids=wanted.ids, all=bool(wanted.all), dry_run=bool(wanted.dry_run)
    )
    # Where copies of the lake lie is for those who run the server.
    answer = {name: value for name, value in done.as_dict().items() if name != "copies"}
    return json_response(_camel(answer))


@router.get("/retention", summary="How long what was removed can come back")
def get_retention(lake: CallerLake) -> Response:
    return json_response({"retention": lake.retention})


@router.put(
    "/retention",
    summary="Set how long what was removed can come back",
    openapi_extra=schema_of(NewRetention),
)
def set_retention(
    lake: CallerLake, wanted: Annotated[Any, Depends(body(NewRetention))]
) -> Response:
    lake.retention = wanted.retention
    return json_response({"retention": lake.retention})
