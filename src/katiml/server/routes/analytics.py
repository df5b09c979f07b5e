"""`/api/analytics/*`: datapoints by class, tag or interval of a metric."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from katiml.evaluation.mislabeling import mislabeling_histogram
from katiml.query.distribution import histogram
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import Distribution, body, schema_of

__all__ = ["router"]

router = APIRouter(prefix="/api/analytics", tags=["analytics"])


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
