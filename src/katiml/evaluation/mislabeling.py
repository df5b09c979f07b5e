"""How likely labels are wrong: where the model is unsure of what the label says is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.evaluation.lanes import matched_lanes
from katiml.query.aggregate import distinct_values
from katiml.query.distribution import bin_edges, bin_labels
from katiml.query.fields import resolve, shown
from katiml.query.filters import Condition
from katiml.vectors.select import Chosen, Select

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["mislabeling_histogram", "mislabeling_scores"]

_BINS = 10
_TYPES = ("LANE_DETECTION", "CLASSIFICATION")
# A road has four; more than these are not looked at.
_MOST_LANES = 256
_MOST_POINTS = 10_000


def mislabeling_scores(
    scope: Scope, filters: Any = None, *, model_name: str | None = None
) -> tuple[list[str], NDArray[np.float64], str | None]:
    """(datapoint ids, their scores 0 to 1, the task type) of the datapoints that pass `filters`.

    Of lanes: 1 minus the lowest confidence among the predicted lanes that match a true one; a
    datapoint without a match has no score. Of classes: 1 minus the model's confidence in the
    labelled class. Lanes come first where there are both. Raises InvalidInput where
    `model_name` is missing and there are several.
    """
    chosen = Select(filters).chosen()
    for task_type, score in zip(_TYPES, (_of_lanes, _of_classes), strict=True):
        model = _model(scope, chosen, model_name, task_type)
        if model is None:
            continue
        found = list(score(scope, chosen, model))
        if found:
            ids, scores = zip(*sorted(found), strict=True)
            return list(ids), np.array(scores), task_type
    return [], np.zeros(0), None


def mislabeling_histogram(
    scope: Scope, filters: Any = None, *, model_name: str | None = None
) -> dict[str, Any]:
    """The datapoints by score, as `katiml.query.histogram` gives them.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> mislabeling_histogram(lake.scope)
    {'histogram': {}, 'task_type': None, 'title': 'Mislabeling'}
    """
    ids, scores, task_type = mislabeling_scores(scope, filters, model_name=model_name)
    answer: dict[str, Any] = {"histogram": {}, "task_type": task_type, "title": "Mislabeling"}
    if len(ids):
        edges = bin_edges(float(scores.min()), float(scores.max()), _BINS)
        places = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 2)
        for index, label in enumerate(bin_labels(edges)):
            own = np.flatnonzero(places == index)
            answer["histogram"][label] = {"datapoints": [ids[row] for row in own], "index": index}
    return answer


def _model(scope: Scope, chosen: Chosen, model_name: str | None, task_type: str) -> str | None:
    if model_name is not None:
        return model_name
    condition = Condition(
        f"task_type = $task_type AND {chosen.within()}",
        {**chosen.parameters, "task_type": task_type},
    )
    names = distinct_values(scope, resolve("predictions", "model_name"), condition)
    if len(names) > 1:
        there = ", ".join(shown(name) for name in names[:20])
        raise InvalidInput("which model? model_name is missing", hint=f"models are: {there}")
    return names[0] if names else None


def _of_classes(scope: Scope, chosen: Chosen, model: str) -> Iterator[tuple[str, float]]:
    found = scope.query(
        "SELECT CAST(truth.datapoint AS VARCHAR) AS id, 1 - confidences[place] AS score FROM ("
        "SELECT datapoint, class_name FROM {groundtruths} "
        f"WHERE task_type = $task_type AND class_name IS NOT NULL AND {chosen.within()}) AS truth "
        "JOIN (SELECT datapoint, class_names, confidences FROM {predictions} "
        "WHERE task_type = $task_type AND model_name = $model) AS prediction "
        "ON prediction.datapoint = truth.datapoint, "
        "LATERAL (SELECT list_position(class_names, class_name) AS place) "
        "WHERE place BETWEEN 1 AND len(confidences) AND confidences[place] IS NOT NULL",
        {**chosen.parameters, "model": model, "task_type": "CLASSIFICATION"},
    )
    yield from zip(found["id"].to_pylist(), found["score"].to_pylist(), strict=True)


def _of_lanes(scope: Scope, chosen: Chosen, model: str) -> Iterator[tuple[str, float]]:
    found = scope.stream(
        "WITH truths AS (SELECT lane.datapoint, list(coco_polyline ORDER BY lane.id) AS truths "
        "FROM {lanes} AS lane JOIN {groundtruths} AS truth ON truth.id = lane.groundtruth "
        f"WHERE task_type = $task_type AND {chosen.within('lane.datapoint')} "
        "GROUP BY lane.datapoint), "
        "predicted AS (SELECT lane.datapoint, list(coco_polyline ORDER BY lane.id) AS predicted, "
        "list(lane.confidence ORDER BY lane.id) AS confidences "
        "FROM {lanes} AS lane JOIN {predictions} AS prediction ON prediction.id = lane.prediction "
        "WHERE task_type = $task_type AND model_name = $model "
        f"AND {chosen.within('lane.datapoint')} AND lane.confidence IS NOT NULL "
        "GROUP BY lane.datapoint) "
        "SELECT CAST(id AS VARCHAR) AS id, truths, predicted, confidences, "
        "TRY_CAST(metadata ->> '$.width' AS DOUBLE) AS width, "
        "TRY_CAST(metadata ->> '$.height' AS DOUBLE) AS height "
        "FROM truths JOIN predicted USING (datapoint) JOIN {datapoints} ON id = datapoint",
        {**chosen.parameters, "model": model, "task_type": "LANE_DETECTION"},
    )
    for batch in found:
        for row in batch.to_pylist():
            score = _lane_score(row)
            if score is not None:
                yield row["id"], score


def _lane_score(row: dict[str, Any]) -> float | None:
    truths, predicted = _lanes(row["truths"]), _lanes(row["predicted"])
    every = [lane for lane in (*truths, *predicted) if len(lane)]
    if not every:
        return None
    far = np.concatenate(every).max(axis=0)
    # Without the size of the image, what the lanes span.
    width, height = (
        given if given is not None and given > 0 else max(float(own), 1.0)
        for given, own in zip((row["width"], row["height"]), far, strict=True)
    )
    pairs = matched_lanes(truths, predicted, width, height)
    if not pairs:
        return None
    return 1.0 - float(min(row["confidences"][number] for _, number in pairs))


def _lanes(lists: list[list[float] | None]) -> list[NDArray[np.float64]]:
    lanes = []
    for flat in lists[:_MOST_LANES]:
        values = np.array((flat or [])[: 2 * _MOST_POINTS], np.float64)
        lanes.append(values[: len(values) // 2 * 2].reshape(-1, 2))
    return lanes
