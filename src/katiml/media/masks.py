"""Masks and maps of pixels as PNG files whose grey values are numbers, for a browser to colour."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from katiml.errors import InvalidInput, NotFound
from katiml.records.arrays import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from katiml.store import Scope

__all__ = ["as_png", "instances", "mask_of", "uncertainty_of"]

_LARGEST = 255


def mask_of(scope: Scope, table: str, row_id: str, size: int) -> bytes:
    """The mask of a ground truth or prediction (`table`), at most `size` pixels wide and high.

    Grey values are class indexes + 1, with 0 for classes past 254. Without a class mask they are
    the places, from 1, of its boxes in the order of their ids. Raises NotFound where there is none.
    """
    rows = scope.query(
        f"SELECT encoded_segmentation_class_mask AS mask FROM {{{table}}} "
        "WHERE id = TRY_CAST($id AS UUID)",
        {"id": row_id},
    )
    if not rows.num_rows:
        raise NotFound(f"no row {row_id!r} in {table}")
    encoded = rows["mask"][0].as_py()
    if encoded:
        # The parser has seen to it that masks hold whole numbers.
        classes = _plane(decode(encoded)).astype(np.int64) + 1
        classes[(classes < 0) | (classes > _LARGEST)] = 0
        return as_png(_fitting(classes.astype(np.uint8), size))
    owner = table.removesuffix("s")
    boxes = scope.query(
        f"SELECT encoded_segmentation_mask AS mask FROM {{bboxes}} "
        f"WHERE {owner} = TRY_CAST($id AS UUID) ORDER BY id",
        {"id": row_id},
    )
    masks = [_plane(decode(text)) if text else None for text in boxes["mask"].to_pylist()]
    return as_png(_fitting(instances(masks), size))


def uncertainty_of(scope: Scope, prediction_id: str, size: int) -> bytes:
    """The entropy of each pixel of a segmentation, 0 to 255 for 0 to 1. Raises NotFound."""
    rows = scope.query(
        "SELECT encoded_value FROM {feature_vectors} WHERE type = 'PXL_ENTROPY' "
        "AND prediction = TRY_CAST($id AS UUID) LIMIT 1",
        {"id": prediction_id},
    )
    if not rows.num_rows:
        raise NotFound(
            f"prediction {prediction_id!r} has no map of pixel entropies",
            hint="they are derived from the logits of a SEGMENTATION",
        )
    values = _plane(decode(rows["encoded_value"][0].as_py())).astype(np.float64)
    grey = (np.nan_to_num(values).clip(0, 1) * _LARGEST).round().astype(np.uint8)
    return as_png(_fitting(grey, size))


def instances(masks: list[NDArray[Any] | None]) -> NDArray[np.uint8]:
    """One plane of the places, from 1, of the masks; a later one lies over an earlier one.

    >>> instances([np.array([[1, 1, 0]]), None, np.array([[0, 1, 1]])]).tolist()
    [[1, 3, 3]]
    """
    shapes = [mask.shape for mask in masks if mask is not None]
    if not shapes:
        raise NotFound("there is no mask")
    height, width = shapes[0][:2]
    plane = np.zeros((height, width), np.uint8)
    for place, mask in enumerate(masks[:_LARGEST], start=1):
        if mask is not None:
            fitted = mask if mask.shape == plane.shape else _resized(mask, height, width)
            plane[fitted != 0] = place
    return plane


def as_png(grey: NDArray[np.uint8]) -> bytes:
    """A PNG file of one channel, (height, width) uint8, values kept exactly."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _plane(array: NDArray[Any]) -> NDArray[Any]:
    plane = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if plane.ndim != 2 or not plane.size:
        raise InvalidInput(f"a mask of shape {array.shape} cannot be shown")
    return plane


def _fitting(plane: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = plane.shape
    scale = size / max(height, width)
    if scale >= 1:
        return plane
    return _resized(plane, max(1, round(height * scale)), max(1, round(width * scale)))


def _resized(plane: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    rows = np.arange(height) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    resized: NDArray[Any] = plane[rows[:, None], columns[None, :]]
    return resized
