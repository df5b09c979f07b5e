"""A ground truth as a lake holds it -> what a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from katiml.records.arrays import decode

__all__ = ["GROUNDTRUTH_FIELDS", "KNOWN_TASKS", "targets_of"]

KNOWN_TASKS = (
    "CLASSIFICATION",
    "SEGMENTATION",
    "SEMANTIC_SEGMENTATION",
    "INSTANCE_SEGMENTATION",
    "OBJECT_DETECTION",
    "LANE_DETECTION",
    "COMPLETION",
)
_SIDES = ("top", "left", "height", "width")
# What `targets_of` reads: fields of a selection of ground truths.
GROUNDTRUTH_FIELDS = [
    "datapoint",
    "task_type",
    "class_name",
    "class_names",
    *_SIDES,
    "encoded_segmentation_class_mask",
    *(f"bboxes.{name}" for name in ("class_name", *_SIDES, "coco_polygon")),
    "bboxes.encoded_segmentation_mask",
    "lanes.coco_polyline",
    "lanes.classifications",
    "completions.text",
]


def targets_of(truth: Mapping[str, Any]) -> dict[str, Any]:
    """The targets in a ground truth, by its task type; {} for a task without any.

    CLASSIFICATION: `class_name`. SEGMENTATION: `segmentation_class_mask`, (height, width) int32.
    INSTANCE_SEGMENTATION: `polygons`, [{class_name, coco_polygon}], and `bboxes`.
    OBJECT_DETECTION: `bboxes`, [{class_name, top, left, height, width}]. Boxes that have a mask
    carry it as `segmentation_mask`, (height, width) uint8. LANE_DETECTION: `lanes`,
    [{class_name, coco_polyline}]. COMPLETION: `completions`, [{text}].

    >>> targets_of({"task_type": "CLASSIFICATION", "class_name": "cat"})
    {'class_name': 'cat'}
    """
    task = truth.get("task_type")
    if task == "CLASSIFICATION":
        return {"class_name": _value(truth, "class_name")}
    if task in ("SEGMENTATION", "SEMANTIC_SEGMENTATION"):
        text = _value(truth, "encoded_segmentation_class_mask")
        mask = None if text is None else decode(text).astype(np.int32)
        return {"segmentation_class_mask": mask}
    if task in ("INSTANCE_SEGMENTATION", "OBJECT_DETECTION"):
        boxes = [_box(box) for box in _items(truth, "bboxes")]
        if not boxes and _value(truth, "top") is not None:
            boxes = [_box(truth)]
        if task == "OBJECT_DETECTION":
            return {"bboxes": boxes}
        polygons = [
            {"class_name": box["class_name"], "coco_polygon": box["coco_polygon"]}
            for box in boxes
            if "coco_polygon" in box
        ]
        return {"polygons": polygons, "bboxes": boxes}
    if task == "LANE_DETECTION":
        return {"lanes": [_lane(lane) for lane in _items(truth, "lanes")]}
    if task == "COMPLETION":
        return {
            "completions": [{"text": item.get("text")} for item in _items(truth, "completions")]
        }
    return {}


def _value(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    # pandas says NaN where there is nothing.
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124


def _items(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    return [item for item in value if item] if isinstance(value, list | tuple | np.ndarray) else []


def _box(box: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _value(box, name) for name in ("class_name", *_SIDES)}
    polygon = _value(box, "coco_polygon")
    if polygon is not None:
        found["coco_polygon"] = list(polygon)
    mask = _value(box, "encoded_segmentation_mask")
    if mask is not None:
        found["segmentation_mask"] = decode(mask).astype(np.uint8)
    return found


def _lane(lane: Mapping[str, Any]) -> dict[str, Any]:
    kinds = lane.get("classifications")
    kinds = orjson.loads(kinds) if isinstance(kinds, str) else kinds
    named = [kind.get("class_name") for kind in kinds or () if kind.get("class_name")]
    line = _value(lane, "coco_polyline")
    return {
        "class_name": _value(lane, "class_name") or (named[0] if named else None),
        "coco_polyline": None if line is None else list(line),
    }
