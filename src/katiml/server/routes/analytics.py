"""`/api/analytics/*`: datapoints by class, tag or interval of a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from katiml.evaluation.mislabeling import mislabeling_histogram
from katiml.query.distribution import histogram
from katiml.server.answers import json_chunks, json_response, rows_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import Distribution, Projection, body, schema_of, wrong_body
from katiml.server.shapes import as_task
from katiml.vectors.task import begin_projection, read_points

if TYPE_CHECKING:
    from katiml.lake import Lake
    from katiml.tasks import Task

__all__ = ["router"]

_ROWS = 20_000  # of one piece of an answer

router = APIRouter(prefix="/api/analytics", tags=["analytics"])


@router.post(
    "/vectors/reduce-dimensions",
    summary="Vectors as points of a plane: x, y, vector, prediction, datapoint, dataset",
    openapi_extra=schema_of(Projection),
)
def reduce_dimensions(
    request: Request, lake: CallerLake, wanted: Annotated[Any, Depends(body(Projection))]
) -> Response:
    if wanted.dataset_id is not None and wanted.dataset_ids is not None:
        raise wrong_body("dataset_id and dataset_ids are both given", "send one of them")
    named = [wanted.dataset_id] if wanted.dataset_id is not None else wanted.dataset_ids
    task = begin_projection(
        lake.scope,
        select={
            "filters": wanted.datapoint_filters,
            "limit": wanted.limit,
            "order_by": wanted.order_by,
            "desc": wanted.desc,
        },
        model_name=wanted.embeddings_name,
        embeddings_field=wanted.embeddings_field,
        method=wanted.algorithm_name,
        dataset_ids=named,
        seed=wanted.seed,
        skip_caching=wanted.skip_caching,
    )
    if wanted.background:
        return json_response(as_task(task), status=202)
    return _points(request, lake, task.wait())


@router.get(
    "/vectors/reduce-dimensions/{task_id}",
    summary="The points of a projection that was begun in the background; waits for it",
)
def points(request: Request, lake: CallerLake, task_id: str) -> Response:
    return _points(request, lake, lake.tasks.get(task_id).wait())


def _points(request: Request, lake: Lake, task: Task) -> Response:
    found = read_points(lake.scope, task)
    return rows_response(
        request, lambda: json_chunks(found.to_batches(_ROWS)), lambda: found.to_reader(_ROWS)
    )


@router.post(
    "/distribution/{field:path}",
    summary="Datapoints by groundtruths, predictions, tag/NAME, mislabeling, a column or a metric",
    openapi_extra=schema_of(Distribution),
)
def distribution(
    lake: CallerLake, field: str, wanted: Annotated[Any, Depends(body(Distribution))]
) -> Response:
    if field == "mislabeling":
        scope = seen(lake, wanted)
        found = mislabeling_histogram(scope, wanted.filters, model_name=wanted.model_name)
        return json_response(found)
    found = histogram(seen(lake, wanted), field, wanted.filters, model_name=wanted.model_name)
    return json_response(found)
