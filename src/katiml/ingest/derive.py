"""What follows from what a model said: confidences, classes, entropy, masks, boxes, vectors.

Fills fields that were not sent; what the user sent always wins.

>>> import numpy as np
>>> cats = {"task_type": ["CLASSIFICATION"], "class_names": [["cat", "dog"]]}
>>> cats["logits"] = [np.array([2.0, 0.0])]
>>> maps = derive(cats, 1)
>>> cats["class_name"], round(cats["confidence"][0], 3)
(['cat'], 0.881)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from katiml.ingest.fields import Fields, fields_of, fill, sent, values
from katiml.records import Classification, Lane, derived
from katiml.records.arrays import pool_embedding, resize_nearest

__all__ = ["Maps", "Vector", "bound", "classify", "classify_lanes", "derive", "vectors_of"]

Array = NDArray[Any]
# Pixel maps of segmentations: {place: [(vector type, map)]}.
Maps = dict[int, list[tuple[str, Array]]]


class Vector(NamedTuple):
    """One feature vector of the prediction that stands at `owner` in its batch."""

    owner: int
    type: str
    model_name: str
    values: Array


def derive(fields: Fields, count: int) -> Maps:
    """Fill what the logits or confidences of predictions imply, a stack of equal shapes at a time.

    Returns the pixel maps of segmentations.
    """
    logits = fields.get("logits")
    if logits is None:
        classify(fields, count)
        return {}
    tasks = values(fields, "task_type", count)
    stacks: dict[tuple[int, ...], list[int]] = {}
    maps: Maps = {}
    without: list[int] = []
    for place, array in enumerate(logits):
        if not sent(array):
            without.append(place)
        elif tasks[place] == "SEGMENTATION":
            maps[place] = _segmentation(fields, place, count)
        elif array.ndim <= 2:
            stacks.setdefault(array.shape, []).append(place)
    for shape, places in stacks.items():
        stacked = np.stack([logits[place] for place in places]).astype(np.float64)
        flat = len(shape) == 1
        of = derived.classification_from_logits if flat else derived.classification_from_passes
        _spread(fields, places, of(stacked), count)
    classify(fields, count, without)
    return maps


def classify(fields: Fields, count: int, places: Sequence[int] | None = None) -> None:
    """Fill what confidences imply: the class, its confidence, and the entropy."""
    confidences = fields.get("confidences")
    if confidences is None:
        return
    stacks: dict[int, list[int]] = {}
    for place in range(count) if places is None else places:
        if sent(confidences[place]) and len(confidences[place]):
            stacks.setdefault(len(confidences[place]), []).append(place)
    for own in stacks.values():
        stacked = np.asarray([confidences[place] for place in own], np.float64)
        _spread(fields, own, derived.classification_from_confidences(stacked), count)


def _spread(fields: Fields, places: Sequence[int], result: Any, count: int) -> None:
    """Hand one row of a stacked result to each place."""
    fill(fields, "confidences", places, result.confidences.tolist(), count)
    fill(fields, "confidence", places, result.confidence.tolist(), count)
    names = fields.get("class_names")
    if names is not None:
        best = result.class_index.tolist()
        chosen = [
            names[place][index] if names[place] else UNSET
            for place, index in zip(places, best, strict=True)
        ]
        fill(fields, "class_name", places, chosen, count)
    metrics = {
        name: column.tolist()
        for name in ("entropy", "variance", "bald")
        if (column := getattr(result, name, None)) is not None
    }
    for place, row in zip(places, zip(*metrics.values(), strict=True), strict=True):
        _add_metrics(fields, place, dict(zip(metrics, row, strict=True)), count)


def _add_metrics(fields: Fields, place: int, metrics: dict[str, Any], count: int) -> None:
    """Put metrics under those that were sent."""
    column = fields.setdefault("metrics", [UNSET] * count)
    column[place] = {**metrics, **column[place]} if column[place] else metrics


def _segmentation(fields: Fields, place: int, count: int) -> list[tuple[str, Array]]:
    logits = fields["logits"][place]
    if logits.ndim == 4:
        result = derived.segmentation_from_passes(logits)
    else:
        result = derived.segmentation_from_logits(logits)
    fill(fields, "segmentation_class_mask", [place], [result.mask], count)
    fill(fields, "confidences", [place], [result.confidences.tolist()], count)
    fill(fields, "confidence", [place], [float(result.confidence)], count)
    own = {"entropy": float(result.entropy)}
    maps = [("PXL_ENTROPY", result.pixel_entropy)]
    if result.variance is not None and result.bald is not None:
        own |= {"variance": float(result.variance), "bald": float(result.bald)}
    if result.pixel_variance is not None:
        maps.append(("PXL_VARIANCE", result.pixel_variance))
    _add_metrics(fields, place, own, count)
    return [(kind, resize_nearest(array)) for kind, array in maps]


def classify_lanes(lanes: Sequence[Lane]) -> None:
    """`classify` for the classifications of lanes, in place."""
    items: list[Classification] = [
        item for lane in lanes for item in lane.classifications or () if item.confidences
    ]
    fields = fields_of(items)
    classify(fields, len(items))
    for name in ("confidence", "class_name", "metrics"):
        for item, value in zip(items, fields.get(name, ()), strict=False):
            setattr(item, name, value)


_SIDES = ("top", "left", "height", "width")


def bound(fields: Fields, count: int) -> None:
    """Give boxes the sides that their polygons or masks imply, where none was sent."""
    sides = [values(fields, name, count) for name in _SIDES]
    unbound = [
        place for place, own in enumerate(zip(*sides, strict=True)) if not any(map(sent, own))
    ]
    polygons = values(fields, "coco_polygon", count)
    outlined = [place for place in unbound if polygons[place]]
    found = derived.boxes_from_polygons([polygons[place] for place in outlined]).tolist()
    masks = values(fields, "segmentation_mask", count)
    for place in unbound:
        if sent(masks[place]) and not polygons[place]:
            side = derived.box_from_mask(masks[place])
            if side is not None:
                outlined.append(place)
                found.append(list(map(float, side)))
    for name, own in zip(_SIDES, zip(*found, strict=True), strict=False):
        fill(fields, name, outlined, own, count)


def vectors_of(fields: Fields, maps: Maps, count: int) -> list[Vector]:
    """The vectors to store: logits, embeddings and gradient embeddings by layer, pixel maps."""
    models = [_text(model or "") for model in values(fields, "model_name", count)]
    vectors = [
        Vector(place, "LOGITS", models[place], array)
        for place, array in enumerate(fields.get("logits", ()))
        if sent(array)
    ]
    for kind, name in (("EMBEDDINGS", "embeddings"), ("GRAD_EMBEDDINGS", "grad_embeddings")):
        for place, layers in enumerate(fields.get(name, ())):
            for layer, array in (layers or {}).items():
                if array is not None:
                    model = f"{models[place]}:{layer}" if layer else models[place]
                    vectors.append(Vector(place, kind, model, pool_embedding(array)))
    vectors.extend(
        Vector(place, kind, models[place], array)
        for place, own in maps.items()
        for kind, array in own
    )
    return vectors


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
