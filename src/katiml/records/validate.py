"""What makes a record right: every rule that its types alone do not say, in one place.

`complete` checks one record and puts its fields into the form the lake keeps. Derived values
(confidences, entropies, boxes from masks) are not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from katiml.errors import InvalidRecord
from katiml.records.convert import to_id, to_mask, to_timestamp, to_vector
from katiml.records.faults import within
from katiml.records.model import (
    NO_METADATA,
    BoundingBox,
    Classification,
    Completion,
    GroundTruth,
    Lane,
    Prediction,
    Record,
)
from katiml.schema import DATAPOINT_TYPES, LOOKUPS, TASK_TYPES

__all__ = ["check_logits", "complete"]

_CANONICAL_TASKS = frozenset(TASK_TYPES)
_OLD_TASKS: dict[Any, Any] = dict(LOOKUPS["task_type"])
_TYPES = ", ".join(DATAPOINT_TYPES)
_TASKS = ", ".join(TASK_TYPES)
_LOGITS_DIMENSIONS = {"CLASSIFICATION": (1, 2), "SEGMENTATION": (3, 4)}
_ANY_LOGITS_DIMENSIONS = (1, 2, 3, 4)


def complete(record: Record) -> None:
    """Checks one decoded record and brings its fields into their final form, in place.

    Raises InvalidRecord with the path of the first thing wrong.

    >>> record = Record(type="IMAGE", predictions=[Prediction(task_type="SEMANTIC_SEGMENTATION")])
    >>> complete(record)
    >>> record.predictions[0].task_type
    'SEGMENTATION'
    """
    if record.metadata is NO_METADATA:
        record.metadata = UNSET
    if record.text is not UNSET and record.text is not None:
        record.type = "TEXT"
    # Most records are new and hold little: that is told by looking, not by calling.
    if record.id is not UNSET or not record.type:
        _identify_datapoint(record)
    if (
        record.timestamp is not UNSET
        or record.gps_coordinates is not UNSET
        or record.parent_datapoint is not UNSET
        or record.preprocessor is not UNSET
    ):
        _complete_fields(record)
    if record.tags and "" in record.tags:
        raise InvalidRecord("a tag needs a name", path="tags")
    if record.groundtruths:
        record.groundtruths = _each(
            record.groundtruths, "groundtruths", _check_attachment, record.id is not UNSET
        )
    if record.predictions:
        record.predictions = _each(
            record.predictions, "predictions", _check_prediction, record.id is not UNSET
        )


def _identify_datapoint(record: Record) -> None:
    if record.type is None:
        record.type = UNSET
    if record.id is None:
        record.id = UNSET
    if record.id is not UNSET:
        record.id = _checked(to_id, record.id, "id")
    elif record.type is UNSET:
        raise InvalidRecord(
            "a new datapoint needs a type", path="type", hint=f"one of {_TYPES}; or send an id"
        )


def _complete_fields(record: Record) -> None:
    if record.timestamp is not UNSET and record.timestamp is not None:
        record.timestamp = _checked(to_timestamp, record.timestamp, "timestamp")
    if record.gps_coordinates is not UNSET and record.gps_coordinates is not None:
        _checked(_check_coordinates, record.gps_coordinates, "gps_coordinates")
    if record.parent_datapoint is not UNSET and record.parent_datapoint is not None:
        record.parent_datapoint = _checked(to_id, record.parent_datapoint, "parent_datapoint")
    if record.preprocessor is not UNSET and record.preprocessor is not None:
        _checked(_check_preprocessor, record.preprocessor, "_preprocessor")


def _checked(check: Callable[[Any], Any], value: Any, step: str) -> Any:
    try:
        return check(value)
    except InvalidRecord as error:
        raise within(error, step) from None


def _check_coordinates(value: dict[str, float]) -> None:
    if set(value) != {"lat", "long"}:
        raise InvalidRecord("coordinates are lat and long", hint='{"lat": 48.85, "long": 2.35}')
    for name, limit in (("lat", 90), ("long", 180)):
        if not -limit <= value[name] <= limit:
            raise InvalidRecord(
                f"{value[name]} is not within -{limit} and {limit} degrees", path=name
            )


def _check_preprocessor(value: dict[str, Any]) -> None:
    if value.get("type") != "patch_sample":
        raise InvalidRecord(
            f"unknown preprocessor {str(value.get('type'))[:80]!r}",
            path="type",
            hint="patch_sample is the only one",
        )
    size = value.get("size")
    if not (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and 1 <= side <= 100 for side in size)
    ):
        raise InvalidRecord("size is [rows, columns], each from 1 to 100", path="size")
    unknown = set(value) - {"type", "size"}
    if unknown:
        raise InvalidRecord(f"unknown field {min(unknown)!r}", hint="fields are: type, size")


def _each(
    items: list[Any], name: str, check: Callable[[Any, bool], None], is_update: bool
) -> list[Any]:
    """Checks the items of a list; returns those that are not null."""
    has_nulls = False
    for item in items:
        if item is None:
            has_nulls = True
            continue
        try:
            check(item, is_update)
        except InvalidRecord as error:
            # Counted now, not on the way: counting is a tenth of the time of a good record.
            index = next(index for index, other in enumerate(items) if other is item)
            raise within(error, f"{name}[{index}]") from None
    return [item for item in items if item is not None] if has_nulls else items


def _check_attachment(item: GroundTruth | Prediction, is_update: bool) -> None:
    if item.id is not UNSET or item.task_type not in _CANONICAL_TASKS:
        _identify(item, is_update)
    if (
        item.segmentation_class_mask is not UNSET
        or item.encoded_segmentation_class_mask is not UNSET
    ):
        _check_class_mask(item)
    if item.bboxes or item.lanes or item.completions:
        _check_children(item)
    if item.metrics:
        item.metrics = _without_nulls(item.metrics)


def _identify(item: GroundTruth | Prediction, is_update: bool) -> None:
    if item.id is UNSET or item.id is None:
        item.id = UNSET
        if item.task_type is UNSET or item.task_type is None:
            raise InvalidRecord(
                "a new attachment needs a task_type", path="task_type", hint=f"one of {_TASKS}"
            )
    else:
        item.id = _checked(to_id, item.id, "id")
        if item.task_type is None:
            item.task_type = UNSET
        if not is_update:
            raise InvalidRecord(
                "the id of an attachment needs the id of its datapoint",
                path="id",
                hint="send the datapoint's id beside it",
            )
    if item.task_type in _OLD_TASKS:
        item.task_type = _OLD_TASKS[item.task_type]


def _check_prediction(item: Prediction, is_update: bool) -> None:
    _check_attachment(item, is_update)
    if item.model_name is None:
        item.model_name = UNSET
    if item.encoded_logits is not UNSET:
        item.logits = _plain_form(item.logits, item.encoded_logits, "encoded_logits")
        item.encoded_logits = UNSET
    if item.logits is not UNSET and item.logits is not None:
        item.logits = _logits(item)
    if item.confidences:
        _check_confidences(item)
    if item.embeddings is not UNSET and item.embeddings is not None:
        item.embeddings = _checked(_layers, item.embeddings, "embeddings")
    if item.grad_embeddings is not UNSET and item.grad_embeddings is not None:
        item.grad_embeddings = _checked(_layers, item.grad_embeddings, "grad_embeddings")


def _logits(item: Prediction) -> NDArray[np.floating] | None:
    try:
        logits = to_vector(item.logits, _ANY_LOGITS_DIMENSIONS)
        if logits is not None:
            check_logits(logits, item.task_type, item.class_names)
    except InvalidRecord as error:
        raise within(error, "logits") from None
    return logits


def check_logits(
    logits: NDArray[np.floating],
    task_type: str | UnsetType | None,
    class_names: list[str] | UnsetType | None,
) -> None:
    """Raises InvalidRecord when logits do not fit their task or the names of their classes.

    CLASSIFICATION: (classes,) or (passes, classes); a single logit goes with two classes, the
    first of which it speaks for. SEGMENTATION: (classes, height, width) or (passes, classes,
    height, width). Other tasks: one to three dimensions, of which the last is the classes unless
    there are three, when it is the first.

    >>> check_logits(np.zeros((3,)), "CLASSIFICATION", ["cat", "dog", "fox"])
    """
    dimensions: tuple[int, ...] = (1, 2, 3)
    if task_type is UNSET or task_type is None:
        dimensions = _ANY_LOGITS_DIMENSIONS
    elif isinstance(task_type, str):
        dimensions = _LOGITS_DIMENSIONS.get(task_type, dimensions)
    if logits.ndim not in dimensions:
        allowed = " or ".join(f"{count}-D" for count in dimensions)
        raise InvalidRecord(f"logits of shape {logits.shape}; {task_type} wants {allowed}")
    if not class_names:
        return
    classes = logits.shape[-1] if logits.ndim < 3 else logits.shape[-3]
    named = len(class_names)
    if classes != named and not (classes == 1 and named == 2 and logits.ndim < 3):
        raise InvalidRecord(f"logits for {classes} classes, but {named} class_names")


def _check_confidences(item: Prediction | BoundingBox | Classification) -> None:
    if item.confidences and item.class_names and len(item.confidences) != len(item.class_names):
        raise InvalidRecord(
            f"{len(item.confidences)} confidences, but {len(item.class_names)} class_names",
            path="confidences",
        )


def _layers(value: Any) -> dict[str, NDArray[np.floating] | None] | None:
    if not isinstance(value, dict):
        array = to_vector(value, (1, 2, 3))
        return None if array is None else {"": array}
    layers: dict[str, NDArray[np.floating] | None] = {}
    for layer, item in value.items():
        try:
            layers[layer] = None if item is None else to_vector(item, (1, 2, 3))
        except InvalidRecord as error:
            raise within(error, layer) from None
    return layers or None


def _check_class_mask(item: GroundTruth | Prediction) -> None:
    encoded = item.encoded_segmentation_class_mask
    if encoded is not UNSET:
        item.segmentation_class_mask = _plain_form(
            item.segmentation_class_mask, encoded, "encoded_segmentation_class_mask"
        )
        item.encoded_segmentation_class_mask = UNSET
    mask = item.segmentation_class_mask
    if mask is not UNSET and mask is not None:
        item.segmentation_class_mask = _checked(to_mask, mask, "segmentation_class_mask")


def _plain_form(plain: Any, encoded: Any, name: str) -> Any:
    """The one of two spellings of an array that was sent."""
    if encoded is None:
        return None if plain is UNSET else plain
    if not isinstance(encoded, str):
        raise InvalidRecord("encoded arrays are text", path=name)
    if plain is not UNSET and plain is not None:
        raise InvalidRecord("send the array or its encoded form, not both", path=name)
    return encoded


def _check_children(item: GroundTruth | Prediction) -> None:
    is_update = item.id is not UNSET
    if item.bboxes:
        item.bboxes = _each(item.bboxes, "bboxes", _check_box, is_update)
    if item.lanes:
        item.lanes = _each(item.lanes, "lanes", _check_lane, is_update)
    if item.completions:
        item.completions = _each(item.completions, "completions", _check_child, is_update)


def _check_child(item: BoundingBox | Lane | Completion, is_update: bool) -> None:
    if item.id is None:
        item.id = UNSET
    elif item.id is not UNSET:
        item.id = _checked(to_id, item.id, "id")
        if not is_update:
            raise InvalidRecord(
                "an id needs the id of the ground truth or prediction around it", path="id"
            )
    if item.metrics:
        item.metrics = _without_nulls(item.metrics)


def _check_box(box: BoundingBox, is_update: bool) -> None:
    _check_child(box, is_update)
    if box.coco_polygon:
        _check_points(box.coco_polygon, "coco_polygon", 6)
    if box.encoded_segmentation_mask is not UNSET:
        box.segmentation_mask = _plain_form(
            box.segmentation_mask, box.encoded_segmentation_mask, "encoded_segmentation_mask"
        )
        box.encoded_segmentation_mask = UNSET
    if box.segmentation_mask is not UNSET and box.segmentation_mask is not None:
        box.segmentation_mask = _checked(to_mask, box.segmentation_mask, "segmentation_mask")
    _check_confidences(box)
    for name in ("height", "width"):
        side = getattr(box, name)
        if side is not UNSET and side is not None and side < 0:
            raise InvalidRecord(f"{side} is below 0", path=name)


def _check_lane(lane: Lane, is_update: bool) -> None:
    _check_child(lane, is_update)
    if lane.coco_polyline:
        _check_points(lane.coco_polyline, "coco_polyline", 4)
    if lane.classifications:
        lane.classifications = _each(
            lane.classifications, "classifications", _check_classification, is_update
        )


def _check_classification(item: Classification, _is_update: bool) -> None:
    _check_confidences(item)
    if item.metrics:
        item.metrics = _without_nulls(item.metrics)


def _check_points(values: list[float], name: str, least: int) -> None:
    if len(values) % 2 or len(values) < least:
        raise InvalidRecord(
            f"{len(values)} numbers; a flat list x, y, x, y ... of at least {least} is expected",
            path=name,
        )


def _without_nulls(metrics: Any) -> Any:
    if None in metrics.values():
        return {name: value for name, value in metrics.items() if value is not None}
    return metrics
