"""`/api/{table}/…`: select, count and delete rows of any table of records."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from katiml.errors import InvalidInput, NotFound
from katiml.query.aggregate import embedding_names, metric_names, model_names, tag_names
from katiml.query.collection import Collection
from katiml.query.delete import delete as delete_counting
from katiml.query.delete import delete_rows
from katiml.schema import RECORD_TABLES, TABLES
from katiml.server.answers import ARROW, json_response, rows_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import (
    Count,
    DatapointIds,
    Delete,
    Distinct,
    EventIds,
    ModelNames,
    Select,
    VectorIds,
    body,
    of_datapoints,
    schema_of,
)

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["router"]

router = APIRouter(prefix="/api")

# The old addresses, whose clients expect the rows that are gone, and `[]` to mean everything.
_ANSWERING_ROWS = ("datapoints", "groundtruths", "predictions")
_ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Rows",
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def _chosen(wanted: Any) -> dict[str, Any]:
    return {
        "filters": wanted.filters,
        "order_by": wanted.order_by,
        "desc": bool(wanted.desc),
        "limit": wanted.limit,
        "offset": wanted.offset or 0,
    }


def _select(request: Request, scope: Scope, table: str, chosen: dict[str, Any]) -> Response:
    rows = Collection(scope, table)
    return rows_response(
        request,
        lambda: rows.select_json(**chosen),
        lambda: rows.select(**chosen, form="batches"),
    )


def _add(table: str) -> None:
    """The three addresses of one table."""
    tag: list[str | Enum] = [table]

    @router.post(
        f"/{table}/select",
        tags=tag,
        name=f"select_{table}",
        summary=f"Rows of {table}",
        openapi_extra=schema_of(Select),
        responses=_ROWS,
    )
    def select(
        request: Request, lake: CallerLake, wanted: Annotated[Any, Depends(body(Select))]
    ) -> Response:
        chosen = {**_chosen(wanted), "fields": wanted.select_columns, "after": wanted.after}
        return _select(request, seen(lake, wanted), table, chosen)

    @router.post(
        f"/{table}/count",
        tags=tag,
        name=f"count_{table}",
        summary=f"How many {table} match",
        openapi_extra=schema_of(Count),
    )
    def count(lake: CallerLake, wanted: Annotated[Any, Depends(body(Count))]) -> Response:
        return json_response(Collection(seen(lake, wanted), table).count(wanted.filters))

    @router.post(
        f"/{table}/delete",
        tags=tag,
        name=f"delete_{table}",
        summary=f"Delete {table} and what belongs to them",
        openapi_extra=schema_of(Delete),
    )
    def delete(lake: CallerLake, wanted: Annotated[Any, Depends(body(Delete))]) -> Response:
        chosen, scope = _chosen(wanted), seen(lake, wanted)
        usual = "rows" if table in _ANSWERING_ROWS else "counts"
        if (wanted.returning or usual) == "rows":
            rows, _ = delete_rows(scope, table, **chosen, all=True)
            return Response(rows, media_type="application/json")
        counts = delete_counting(scope, table, **chosen, all=bool(wanted.all))
        return json_response(counts)


for _table in RECORD_TABLES:
    _add(_table)


@router.get("/datapoints", tags=["datapoints"], summary="All datapoints", responses=_ROWS)
def all_datapoints(request: Request, lake: CallerLake) -> Response:
    return _select(request, lake.scope, "datapoints", {})


@router.get("/datapoints/{datapoint_id}", tags=["datapoints"], summary="One datapoint")
def one_datapoint(lake: CallerLake, datapoint_id: str) -> Response:
    named = [{"left": "id", "op": "=", "right": datapoint_id}]
    try:
        row = b"".join(lake.datapoints.select_json(named)).strip()
    except InvalidInput:
        row = b"[]"
    if row == b"[]":
        raise NotFound(f"no datapoint {datapoint_id!r}")
    return Response(row[1:-1], media_type="application/json")


@router.post(
    "/datapoints/find-vector-ids",
    tags=["datapoints"],
    summary="Ids of the feature vectors of datapoints",
    openapi_extra=schema_of(VectorIds),
)
def vector_ids(lake: CallerLake, wanted: Annotated[Any, Depends(body(VectorIds))]) -> Response:
    chosen, scope = _chosen(wanted), seen(lake, wanted)
    if chosen["limit"] is not None or chosen["offset"]:
        datapoints = Collection(scope, "datapoints")
        found = datapoints.select(**chosen, fields=["id"], form="arrow")["id"].to_pylist()
        filters = [{"left": "datapoint", "op": "in", "right": found}]
    else:
        filters = of_datapoints(wanted.filters)
    for name, value in (("type", wanted.type), ("model_name", wanted.model_name)):
        if value is not None:
            filters.append({"left": name, "op": "=", "right": value})
    rows = Collection(scope, "feature_vectors").select(filters, fields=["id"], form="arrow")
    return json_response(rows["id"].to_pylist())


@router.post(
    "/datapoints/from-event-uuids",
    tags=["datapoints"],
    summary="Datapoints by the request_id they were sent with",
    openapi_extra=schema_of(EventIds),
    responses=_ROWS,
)
def from_events(
    request: Request, lake: CallerLake, wanted: Annotated[Any, Depends(body(EventIds))]
) -> Response:
    filters = [{"left": "request_id", "op": "in", "right": wanted.event_uuids}]
    return _select(request, lake.scope, "datapoints", {"filters": filters})


def _add_get(table: str) -> None:
    # Masks are left out: this answers with what fits in a chart or a list.
    scalars = [
        column.name
        for column in TABLES[table].visible
        if not column.name.startswith("encoded_") and column.name != "organization_id"
    ]

    @router.post(
        f"/{table}/get",
        tags=[table],
        name=f"get_{table}",
        summary=f"The {table} of some datapoints, without their masks",
        openapi_extra=schema_of(DatapointIds),
        responses=_ROWS,
    )
    def get(
        request: Request, lake: CallerLake, wanted: Annotated[Any, Depends(body(DatapointIds))]
    ) -> Response:
        filters = [{"left": "datapoint", "op": "in", "right": wanted.datapoint_ids}]
        return _select(request, lake.scope, table, {"filters": filters, "fields": scalars})


for _table in ("predictions", "groundtruths"):
    _add_get(_table)


@router.post(
    "/predictions/select-distinct-model-names",
    tags=["predictions"],
    summary="Names of models with predictions",
    openapi_extra=schema_of(ModelNames),
)
def distinct_models(
    lake: CallerLake, wanted: Annotated[Any, Depends(body(ModelNames))]
) -> Response:
    names = model_names(
        seen(lake, wanted), wanted.datapoint_filters, wanted.filters, wanted.limit, wanted.offset
    )
    return json_response(names)


def _add_names(path: str, names_of: Callable[..., list[str]], summary: str) -> None:
    @router.post(
        path,
        tags=[path.split("/")[1]],
        name=path.strip("/").replace("/", "_"),
        summary=summary,
        openapi_extra=schema_of(Distinct),
    )
    def distinct(lake: CallerLake, wanted: Annotated[Any, Depends(body(Distinct))]) -> Response:
        scope = seen(lake, wanted)
        names = names_of(scope, wanted.datapoint_filters, wanted.limit, wanted.offset)
        return json_response(names)


def _metric_names(
    scope: Scope, datapoint_filters: Any, limit: int | None, offset: int | None
) -> list[str]:
    names = metric_names(scope, datapoint_filters)[offset or 0 :]
    return names if limit is None else names[:limit]


_add_names("/tags/select-distinct-names", tag_names, "Names of tags")
_add_names("/predictions/select-distinct-embedding-names", embedding_names, "Names of embeddings")
_add_names("/predictions/select-distinct-metrics", _metric_names, "Names of metrics")
