"""What the web app asks for in one request: attachments of a page, counts by bucket, tags."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from katiml.query.distribution import distribution
from katiml.query.tagging import set_tag
from katiml.schema import TABLES
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import Buckets, DatapointIds, Tag, body, schema_of, wrong_body

__all__ = ["router"]

router = APIRouter(prefix="/api/datapoints", tags=["datapoints"])

_TABLES = ("tags", "groundtruths", "predictions", "bboxes", "lanes", "completions")
_MANY_IDS = 2_000


def _shown(table: str) -> list[str]:
    """The columns without masks, which have an address of their own."""
    left_out = ("organization_id", "created_at")
    return [
        column.name
        for column in TABLES[table].visible
        if column.name not in left_out and not column.name.startswith("encoded_")
    ]


@router.post(
    "/attachments",
    summary="Tags, ground truths, predictions, boxes, lanes and completions of some datapoints",
    openapi_extra=schema_of(DatapointIds),
)
def attachments(lake: CallerLake, wanted: Annotated[Any, Depends(body(DatapointIds))]) -> Response:
    ids = wanted.datapoint_ids
    if len(ids) > _MANY_IDS:
        raise wrong_body(
            f"{len(ids):,} datapointIds", f"at most {_MANY_IDS:,}; that is a page of what is shown"
        )
    named = [{"left": "datapoint", "op": "in", "right": ids}]
    pieces: list[bytes] = []
    for table in _TABLES:
        rows = getattr(lake, table).select_json(named, _shown(table), "id")
        pieces.append(b'"%s":%s' % (table.encode(), b"".join(rows)))
    return Response(b"{" + b",".join(pieces) + b"}", media_type="application/json")


@router.post(
    "/distribution",
    summary="How often each class, tag or interval of a field occurs",
    openapi_extra=schema_of(Buckets),
)
def counts(lake: CallerLake, wanted: Annotated[Any, Depends(body(Buckets))]) -> Response:
    found = distribution(
        seen(lake, wanted),
        "datapoints",
        wanted.field,
        wanted.filters,
        model_name=wanted.model_name,
        bins=wanted.bins,
    )
    shown = found.head(wanted.limit).rename(columns={"task_type": "taskType"})
    answer = {
        "buckets": shown.to_dict("records"),
        "total": len(found),
        "numeric": "low" in found.columns,
    }
    return json_response(answer)


@router.post(
    "/tag",
    summary="Set a tag of the datapoints that match, or take it away",
    openapi_extra=schema_of(Tag),
)
def tag(lake: CallerLake, wanted: Annotated[Any, Depends(body(Tag))]) -> Response:
    done = set_tag(lake.scope, wanted.filters, wanted.name, wanted.value, all=bool(wanted.all))
    previous = None
    if done.previous is not None:
        previous = [{"value": value, "datapointIds": ids} for value, ids in done.previous]
    return json_response({"datapoints": done.datapoints, "previous": previous})
