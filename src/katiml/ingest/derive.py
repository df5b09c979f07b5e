"""What follows from what a model said: confidences, classes, entropy, masks, boxes, vectors.

Fills fields that were not sent; what the user sent always wins.

>>> import numpy as np
>>> from katiml.records import Prediction
>>> cat = Prediction(
...     task_type="CLASSIFICATION", class_names=["cat", "dog"], logits=np.array([2.0, 0.0])
... )
>>> maps = derive([cat])
>>> cat.class_name, round(cat.confidence, 3)
('cat', 0.881)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from katiml.records import BoundingBox, GroundTruth, Prediction, derived
from katiml.records.arrays import pool_embedding, resize_nearest

__all__ = ["Vector", "derive", "derive_children", "vectors_of"]

Array = NDArray[Any]


class Vector(NamedTuple):
    """One feature vector of the prediction that stands at `owner` in its batch."""

    owner: int
    type: str
    model_name: str
    values: Array


def _has_children(item: GroundTruth | Prediction) -> bool:
    return bool(item.bboxes or item.lanes)


def _sent(value: Any) -> bool:
    return value is not UNSET and value is not None


def derive(predictions: Sequence[Prediction]) -> dict[int, list[tuple[str, Array]]]:
    """Fill what logits or confidences imply, a stack of equal shapes at a time.

    Returns the pixel maps of segmentations: {position: [(vector type, map)]}.
    """
    stacks: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    maps: dict[int, list[tuple[str, Array]]] = {}
    for index, prediction in enumerate(predictions):
        if _sent(prediction.logits):
            if prediction.task_type == "SEGMENTATION":
                maps[index] = _segmentation(prediction)
            elif prediction.logits.ndim <= 2:
                stacks.setdefault(("logits", prediction.logits.shape), []).append(index)
        elif _sent(prediction.confidences) and prediction.confidences:
            count = len(prediction.confidences)
            stacks.setdefault(("confidences", (count,)), []).append(index)
    for (kind, shape), indices in stacks.items():
        own = [predictions[index] for index in indices]
        stacked = np.stack([np.asarray(getattr(item, kind), np.float64) for item in own])
        if kind == "confidences":
            result = derived.classification_from_confidences(stacked)
        elif len(shape) == 1:
            result = derived.classification_from_logits(stacked)
        else:
            result = derived.classification_from_passes(stacked)
        _spread(own, result)
    return maps


def _spread(items: Sequence[Any], result: Any) -> None:
    """Hand one row of a stacked result to each item."""
    confidences = result.confidences.tolist()
    confidence = result.confidence.tolist()
    best = result.class_index.tolist()
    metrics = {
        name: values.tolist()
        for name in ("entropy", "variance", "bald")
        if (values := getattr(result, name, None)) is not None
    }
    for position, item in enumerate(items):
        if not _sent(item.confidences):
            item.confidences = confidences[position]
        if not _sent(item.confidence):
            item.confidence = confidence[position]
        if not _sent(item.class_name) and item.class_names:
            item.class_name = item.class_names[best[position]]
        own = {name: values[position] for name, values in metrics.items()}
        item.metrics = {**own, **item.metrics} if item.metrics else own


def _segmentation(prediction: Prediction) -> list[tuple[str, Array]]:
    logits = prediction.logits
    if logits.ndim == 4:
        result = derived.segmentation_from_passes(logits)
    else:
        result = derived.segmentation_from_logits(logits)
    if not _sent(prediction.segmentation_class_mask):
        prediction.segmentation_class_mask = result.mask
    if not _sent(prediction.confidences):
        prediction.confidences = result.confidences.tolist()
    if not _sent(prediction.confidence):
        prediction.confidence = float(result.confidence)
    own = {"entropy": float(result.entropy)}
    maps = [("PXL_ENTROPY", result.pixel_entropy)]
    if result.variance is not None and result.bald is not None:
        own |= {"variance": float(result.variance), "bald": float(result.bald)}
    if result.pixel_variance is not None:
        maps.append(("PXL_VARIANCE", result.pixel_variance))
    prediction.metrics = {**own, **(prediction.metrics or {})}
    return [(kind, resize_nearest(values)) for kind, values in maps]


def derive_children(items: Sequence[GroundTruth | Prediction]) -> None:
    """Boxes from polygons and masks; classes and entropy of boxes and of lanes' classifications."""
    if not any(map(_has_children, items)):
        return
    boxes = [box for item in items for box in item.bboxes or ()]
    _bound(boxes)
    classified: list[Any] = [
        *boxes,
        *(
            classification
            for item in items
            for lane in item.lanes or ()
            for classification in lane.classifications or ()
        ),
    ]
    scored: dict[int, list[Any]] = {}
    for item in classified:
        if item.confidences is not UNSET and item.confidences:
            scored.setdefault(len(item.confidences), []).append(item)
    for own in scored.values():
        stacked = np.asarray([item.confidences for item in own], np.float64)
        _spread(own, derived.classification_from_confidences(stacked))


def _bound(boxes: Sequence[BoundingBox]) -> None:
    """Give boxes the sides that their polygons or masks imply, where none was sent."""
    unbound = [
        box
        for box in boxes
        if not any(_sent(side) for side in (box.top, box.left, box.height, box.width))
    ]
    outlined = [box for box in unbound if _sent(box.coco_polygon) and box.coco_polygon]
    sides = derived.boxes_from_polygons([box.coco_polygon or () for box in outlined]).tolist()
    found = list(zip(outlined, sides, strict=True))
    for box in unbound:
        if _sent(box.segmentation_mask) and not box.coco_polygon:
            side = derived.box_from_mask(box.segmentation_mask)
            if side is not None:
                found.append((box, list(map(float, side))))
    for box, (top, left, height, width) in found:
        box.top, box.left, box.height, box.width = top, left, height, width


def vectors_of(
    predictions: Sequence[Prediction], maps: dict[int, list[tuple[str, Array]]]
) -> list[Vector]:
    """The vectors to store: logits, embeddings and gradient embeddings by layer, pixel maps."""
    vectors: list[Vector] = []
    for owner, prediction in enumerate(predictions):
        model = prediction.model_name or ""
        if _sent(prediction.logits):
            vectors.append(Vector(owner, "LOGITS", model, prediction.logits))
        for kind, field in (
            ("EMBEDDINGS", prediction.embeddings),
            ("GRAD_EMBEDDINGS", prediction.grad_embeddings),
        ):
            if field is UNSET or not field:
                continue
            for layer, values in field.items():
                if values is not None:
                    name = f"{model}:{layer}" if layer else model
                    vectors.append(Vector(owner, kind, name, pool_embedding(values)))
        vectors.extend(Vector(owner, kind, model, values) for kind, values in maps.get(owner, ()))
    return vectors
