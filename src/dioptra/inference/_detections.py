"""What detectors return -> boxes, as records hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioptra.inference._outputs import to_array
from katiml.errors import InvalidInput

__all__ = ["as_items"]


def as_items(values: Any, count: int | None, class_names: Sequence[str], what: str) -> list[Any]:
    """Fields of predictions, one dict for each item, of what a model or a transform returned.

    Each of `values` is a dict of fields of a prediction (`bboxes`, `lanes`, `completions`,
    `metrics` ...), or of arrays `boxes` (n x 4: left, top, right, bottom), `scores`, `labels`,
    `masks` (n x height x width, probabilities), as torchvision's detectors return, or a text,
    which is a completion. Labels are places in `class_names`. Raises InvalidInput.

    >>> box = {"boxes": np.array([[1.0, 2.0, 4.0, 6.0]]), "labels": [1], "scores": [0.5]}
    >>> as_items([box], 1, ["background", "cat"], "the model")[0]["bboxes"] == [
    ...     {"left": 1.0, "top": 2.0, "width": 3.0, "height": 4.0,
    ...      "confidence": 0.5, "class_name": "cat"}
    ... ]
    True
    """
    if isinstance(values, Mapping) or not isinstance(values, Sequence | np.ndarray):
        raise InvalidInput(
            f"{what} returned {type(values).__name__}", hint="a list with one dict for each item"
        )
    if count is not None and len(values) != count:
        raise InvalidInput(f"{what} returned {len(values)} items for a batch of {count}")
    return [_item(value, class_names, what) for value in values]


def _item(value: Any, class_names: Sequence[str], what: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"completions": [{"text": value}]}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{what} returned a list of {type(value).__name__}",
            hint="one dict for each item: bboxes, lanes, completions, metrics; or boxes, labels,"
            " scores, masks",
        )
    if "boxes" not in value:
        return {str(name): _plain(field) for name, field in value.items()}
    fields = {name: value[name] for name in value if name not in _DETECTION}
    return {**fields, "bboxes": _boxes(value, class_names)}


_DETECTION = ("boxes", "labels", "scores", "masks")


def _boxes(value: Mapping[str, Any], class_names: Sequence[str]) -> list[dict[str, Any]]:
    corners = to_array(value["boxes"]).reshape(-1, 4).astype(np.float64)
    sides = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()
    boxes: list[dict[str, Any]] = [
        {"left": left, "top": top, "width": width, "height": height}
        for left, top, width, height in sides
    ]
    for name, key in (("confidence", "scores"), ("class_name", "labels")):
        if value.get(key) is None:
            continue
        given = to_array(value[key]).reshape(-1).tolist()
        if len(given) != len(boxes):
            raise InvalidInput(f"{len(given)} {key} for {len(boxes)} boxes")
        for box, own in zip(boxes, given, strict=True):
            box[name] = _class_name(own, class_names) if key == "labels" else own
    if value.get("masks") is not None:
        masks = to_array(value["masks"])
        masks = masks.reshape(len(boxes), *masks.shape[-2:])
        if masks.dtype.kind == "f":
            masks = masks >= 0.5
        for box, mask in zip(boxes, masks.astype(np.uint8), strict=True):
            # The lake takes the box of a mask where none was sent; here the detector's own counts.
            box["segmentation_mask"] = mask
    return boxes


def _class_name(label: Any, class_names: Sequence[str]) -> str:
    if isinstance(label, str):
        return label
    if not class_names:
        return str(label)
    if not 0 <= label < len(class_names):
        raise InvalidInput(
            f"label {label} has no name: class_names has {len(class_names)}",
            hint="detectors often count from 1: the first name is then 'background'",
        )
    return class_names[int(label)]


def _plain(value: Any) -> Any:
    """Tensors on a device become arrays; what is around them stays."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "detach"):
        array = to_array(value)
        return array.item() if array.ndim == 0 else array
    return value
