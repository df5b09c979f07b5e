"""`_preprocessor: {"type": "patch_sample", "size": [rows, columns]}`: one datapoint -> its patches.

The record itself stays; beside it come rows x columns children, left to right, then down. A child
has

- the type, timestamp, coordinates and tags of its parent;
- its metadata with `normalized_roi`, the place of the patch in the file as fractions (inside the
  parent's own `normalized_roi`, if it has one);
- of each ground truth and prediction what has a place in the image: the part of the mask that the
  patch covers, and the parts of logits (classes, height, width), with or without passes, and of
  3-D embeddings. Parts of vectors are cropped about their centre to one size for all patches, so
  that they can be compared. Ground truths and predictions with nothing of that kind are not copied:
  what holds for the whole need not hold for a part.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import UNSET
from numpy.typing import NDArray

from katiml.errors import InvalidRecord
from katiml.records.faults import within
from katiml.records.model import GroundTruth, Prediction, Record

__all__ = ["split"]

Grid = tuple[int, int]
Cell = tuple[int, int]


def split(record: Record) -> list[Record]:
    """The patches of a parsed record, yet without ids; an empty list without a preprocessor.

    Raises InvalidRecord when a mask or vector has fewer rows or columns than there are patches.

    >>> record = Record(type="IMAGE", preprocessor={"type": "patch_sample", "size": [1, 2]})
    >>> [bytes(patch.metadata) for patch in split(record)][1]
    b'{"normalized_roi":{"top":0.0,"left":0.5,"height":1.0,"width":0.5}}'
    """
    if not record.preprocessor:
        return []
    rows, columns = record.preprocessor["size"]
    grid = (rows, columns)
    return [_patch(record, grid, (row, column)) for row in range(rows) for column in range(columns)]


def _patch(record: Record, grid: Grid, cell: Cell) -> Record:
    return Record(
        type=record.type,
        metadata=_metadata(record.metadata, grid, cell),
        timestamp=record.timestamp,
        gps_coordinates=record.gps_coordinates,
        tags=record.tags or UNSET,
        groundtruths=_parts(record.groundtruths, "groundtruths", grid, cell),
        predictions=_parts(record.predictions, "predictions", grid, cell),
    )


def _metadata(metadata: Any, grid: Grid, cell: Cell) -> msgspec.Raw:
    fields = orjson.loads(bytes(metadata)) if metadata else {}
    whole = fields.get("normalized_roi")
    if not isinstance(whole, dict) or not all(_is_number(whole.get(side)) for side in _WHOLE):
        whole = _WHOLE
    height, width = whole["height"] / grid[0], whole["width"] / grid[1]
    fields["normalized_roi"] = {
        "top": whole["top"] + cell[0] * height,
        "left": whole["left"] + cell[1] * width,
        "height": height,
        "width": width,
    }
    return msgspec.Raw(orjson.dumps(fields))


_WHOLE = {"top": 0.0, "left": 0.0, "height": 1.0, "width": 1.0}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(items: Any, name: str, grid: Grid, cell: Cell) -> Any:
    if not items:
        return UNSET
    parts = []
    for index, item in enumerate(items):
        try:
            part = _part(item, grid, cell)
        except InvalidRecord as error:
            raise within(error, f"{name}[{index}]") from None
        if part is not None:
            parts.append(part)
    return parts or UNSET


def _part(
    item: GroundTruth | Prediction, grid: Grid, cell: Cell
) -> GroundTruth | Prediction | None:
    part = type(item)(task_type=item.task_type, class_names=item.class_names)
    found = False
    mask = item.segmentation_class_mask
    if mask is not UNSET and mask is not None:
        part.segmentation_class_mask = _cell(mask, grid, cell, "segmentation_class_mask")
        found = True
    if isinstance(item, Prediction) and isinstance(part, Prediction):
        part.model_name = item.model_name
        if isinstance(item.logits, np.ndarray) and item.logits.ndim >= 3:
            part.logits = _centre(item.logits, grid, cell, "logits")
            found = True
        for name in ("embeddings", "grad_embeddings"):
            layers = {
                layer: _centre(array, grid, cell, f"{name}.{layer}" if layer else name)
                for layer, array in (getattr(item, name) or {}).items()
                if array is not None and array.ndim == 3
            }
            if layers:
                setattr(part, name, layers)
                found = True
    return part if found else None


def _cell(array: NDArray[Any], grid: Grid, cell: Cell, name: str) -> NDArray[Any]:
    """The part of (..., height, width) under one patch: together the patches cover every pixel."""
    (top, bottom), (left, right) = _spans(array, grid, cell, name)
    return np.ascontiguousarray(array[..., top:bottom, left:right])


def _centre(array: NDArray[Any], grid: Grid, cell: Cell, name: str) -> NDArray[Any]:
    """The same, cropped about its centre to the size that all patches have."""
    (top, bottom), (left, right) = _spans(array, grid, cell, name)
    height, width = array.shape[-2] // grid[0], array.shape[-1] // grid[1]
    top += (bottom - top - height) // 2
    left += (right - left - width) // 2
    return np.ascontiguousarray(array[..., top : top + height, left : left + width])


def _spans(
    array: NDArray[Any], grid: Grid, cell: Cell, name: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    sides = array.shape[-2:]
    if sides[0] < grid[0] or sides[1] < grid[1]:
        raise InvalidRecord(
            f"{sides[0]} x {sides[1]} cannot be cut into {grid[0]} x {grid[1]} patches", path=name
        )
    vertical, horizontal = (
        (index * side // count, (index + 1) * side // count)
        for side, count, index in zip(sides, grid, cell, strict=True)
    )
    return vertical, horizontal
