"""`/api/metrics/evaluate/*`: how good a model is on the ground truths of a selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from katiml.errors import InvalidInput
from katiml.evaluation import Evaluation, evaluate
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake, seen
from katiml.server.bodies import Evaluate, Mistakes, body, schema_of

if TYPE_CHECKING:
    from katiml.lake import Lake

__all__ = ["router"]

router = APIRouter(prefix="/api/metrics", tags=["metrics"])

# Address -> the name of its column by class, and of its number overall.
_METRICS = {
    "accuracy": ("recall", "accuracy"),
    "precision": ("precision", "precision_macro"),
    "recall": ("recall", "recall_macro"),
    "f1": ("f1", "f1_macro"),
    "mean-iou": ("iou", "iou_macro"),
    "map": ("ap", "map"),
}


def _evaluated(lake: Lake, wanted: Evaluate) -> Evaluation:
    return evaluate(
        seen(lake, wanted),
        wanted.model_name,
        wanted.datapoint_filters,
        task_type=wanted.task_type,
        iou_threshold=0.5 if wanted.iou_threshold is None else wanted.iou_threshold,
        min_confidence=0.5 if wanted.min_confidence is None else wanted.min_confidence,
        ignore_classes=wanted.ignore_classes or (),
        count_missing=bool(wanted.count_missing),
    )


@router.post(
    "/evaluate",
    summary="Everything: the metrics overall and by class, and what was taken for what",
    openapi_extra=schema_of(Evaluate),
)
def everything(lake: CallerLake, wanted: Annotated[Any, Depends(body(Evaluate))]) -> Response:
    return json_response(_evaluated(lake, wanted).to_dict())


@router.post(
    "/evaluate/mistakes",
    summary="The datapoints behind a cell of the confusion matrix, the worst first",
    openapi_extra=schema_of(Mistakes),
)
def mistakes(lake: CallerLake, wanted: Annotated[Any, Depends(body(Mistakes))]) -> Response:
    limit = 50 if wanted.limit is None else wanted.limit
    found = _evaluated(lake, wanted).mistakes(wanted.truth, wanted.predicted, limit=limit)
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    return json_response(rows)


def _add(metric: str) -> None:
    column, overall = _METRICS[metric]

    @router.post(
        f"/evaluate/{metric}",
        name=f"evaluate_{metric}",
        summary=f"{metric} overall and by class",
        openapi_extra=schema_of(Evaluate),
    )
    def one(lake: CallerLake, wanted: Annotated[Any, Depends(body(Evaluate))]) -> Response:
        found = _evaluated(lake, wanted).to_dict()
        if overall not in found["overall"] or (
            found["per_class"] and column not in found["per_class"][0]
        ):
            raise InvalidInput(
                f"{metric} is not defined for {found['task_type']}",
                hint="ask /api/metrics/evaluate for those that are",
            )
        answer = {
            name: found[name]
            for name in ("model_name", "task_type", "datapoints", "without_prediction")
        }
        answer["metric"] = metric
        answer["value"] = found["overall"][overall]
        for average in ("macro", "micro", "weighted"):
            pooled = f"{column}_{average}"
            if metric not in ("accuracy", "map") and pooled in found["overall"]:
                answer[average] = found["overall"][pooled]
        answer["per_class"] = [
            {"class_name": row["class_name"], "value": row[column], "support": row["support"]}
            for row in found["per_class"]
        ]
        return json_response(answer)


for _metric in _METRICS:
    _add(_metric)
