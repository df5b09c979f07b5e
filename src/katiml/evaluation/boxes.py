"""Boxes and instances of ground truths and predictions, read image by image in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from katiml.errors import TooLarge
from katiml.evaluation.matching import Objects, Pairs, overlapping_pairs
from katiml.evaluation.regions import (
    Runs,
    box_intersections,
    joined_runs,
    mask_intersections,
    rectangles,
    runs_of_mask,
    runs_of_polygons,
)
from katiml.query.fields import Field, Parameters
from katiml.records.arrays import decode
from katiml.schema import TABLES

if TYPE_CHECKING:
    from katiml.evaluation.selection import Selected

__all__ = ["UNNAMED", "Images", "read_images"]

# What boxes without a class are called.
UNNAMED = "object"
_ROWS = 20_000
_BYTES = 64 << 20
_MAX_PIXELS = 1 << 28
_SIDES = ("top", "left", "height", "width")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """The boxes of some whole images. `boxes`, (N, 4) top, left, height, width, and `ids` are of
    the detections first and then of the true objects."""

    names: list[str]
    datapoints: list[str]
    detections: Objects
    truths: Objects
    boxes: Floats
    ids: list[str]
    masks: Runs | None = None
    mask_bounds: Floats | None = None

    def pairs(self, least: float, *, within_labels: bool) -> Pairs:
        """Detections and true objects that overlap by an IoU of at least `least`."""
        return overlapping_pairs(
            self.detections, self.truths, self._shared, least, within_labels=within_labels
        )

    def _shared(self, detection: NDArray[np.intp], truth: NDArray[np.intp]) -> NDArray[Any]:
        other = truth + len(self.detections)
        if self.masks is None or self.mask_bounds is None:
            return box_intersections(self.boxes[detection], self.boxes[other])
        near = box_intersections(self.mask_bounds[detection], self.mask_bounds[other]) > 0
        shared = np.zeros(len(detection), np.int64)
        pairs = np.stack([detection[near], other[near]], axis=1)
        shared[near] = mask_intersections(self.masks, self.masks, pairs)
        return shared


def read_images(selected: Selected) -> Iterator[Images]:
    """The images of the selection in the order of their ids, some thousands of boxes at a time.

    A ground truth or prediction without boxes that is a box itself counts as one. A true box
    whose metric `iscrowd` is not 0 stands for a crowd, as in COCO.
    """
    outlined = selected.task_type == "INSTANCE_SEGMENTATION"
    parameters = Parameters("b")
    sql = _statement(selected, outlined, parameters)
    stream = selected.scope.stream(sql, {**selected.parameters, **parameters.values})
    names: dict[str, int] = {}
    for table in _whole_images(stream):
        yield _images(table, names, outlined)


def _statement(selected: Selected, outlined: bool, parameters: Parameters) -> str:
    """Rows of `_ROW`, and with outlines also of `_OUTLINE`, image by image."""
    shape = "coco_polygon, encoded_segmentation_mask, " if outlined else ""
    crowd = _number("bboxes", "metrics", "iscrowd", parameters)

    def branches(table: str, key: str, predicted: str, score: str) -> str:
        none = "NULL, NULL, " if outlined else ""
        return (
            f"SELECT {table}.datapoint, {predicted}, boxes.id, boxes.class_name, "
            f"boxes.top, boxes.left, boxes.height, boxes.width, {shape}"
            f"{'NULL' if score else crowd}, {'boxes.confidence' if score else 'NULL'} "
            f"FROM {table} JOIN {{bboxes}} AS boxes ON boxes.{key} = {table}.id "
            f"UNION ALL SELECT datapoint, {predicted}, id, class_name, "
            f"top, {table}.left, height, width, {none}NULL, {score or 'NULL'} "
            f"FROM {table} WHERE top IS NOT NULL AND id NOT IN "
            f"(SELECT {key} FROM {{bboxes}} WHERE {key} IS NOT NULL)"
        )

    columns = 'class_name, top, "left", height, width'
    outline = joined = size = ""
    if outlined:
        outline = ", CAST(polygon AS DOUBLE[]) AS polygon, mask, image_height, image_width"
        height = _number("datapoints", "metadata", "height", parameters)
        width = _number("datapoints", "metadata", "width", parameters)
        joined = (
            f" LEFT JOIN (SELECT id AS datapoint, {height} AS image_height, "
            f"{width} AS image_width FROM {{datapoints}}) USING (datapoint)"
        )
        size = "polygon, mask, "
    present = " OR polygon IS NOT NULL OR mask IS NOT NULL" if outlined else ""
    return (
        selected.with_pairs(columns, f"{columns}, confidence")
        + f', objects(datapoint, predicted, id, class_name, top, "left", height, width, {size}'
        "crowd, score) AS ("
        + branches("truths", "groundtruth", "FALSE", "")
        + " UNION ALL "
        + branches("said", "prediction", "TRUE", "confidence")
        + ") SELECT CAST(datapoint AS VARCHAR) AS datapoint, predicted, "
        "CAST(objects.id AS VARCHAR) AS id, class_name, "
        + ", ".join(f'CAST(objects."{side}" AS DOUBLE) AS "{side}"' for side in _SIDES)
        + f", CAST(crowd AS DOUBLE) AS crowd, CAST(score AS DOUBLE) AS score{outline} "
        f"FROM objects{joined} WHERE datapoint IN (SELECT datapoint FROM used) "
        f"AND (top IS NOT NULL{present}) ORDER BY datapoint, predicted, id"
    )


def _number(table: str, column: str, name: str, parameters: Parameters) -> str:
    return Field(table, TABLES[table].columns[column], (name,)).number(parameters)


def _whole_images(stream: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Batches put together so that no image is divided."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in stream:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows < _ROWS and size < _BYTES:
            continue
        table = pa.Table.from_batches(waiting)
        names = table["datapoint"]
        # The last image may go on in the next batch.
        last = pc.index(names, names[-1]).as_py()
        if last:
            yield table.slice(0, last)
        rest = table.slice(last).combine_chunks()
        waiting, rows, size = rest.to_batches(), rest.num_rows, rest.nbytes
    if rows:
        yield pa.Table.from_batches(waiting)


def _images(table: pa.Table, names: dict[str, int], outlined: bool) -> Images:
    predicted = table["predicted"].to_numpy()
    # Detections first: then both kinds have consecutive indexes.
    table = table.take(pa.array(np.argsort(~predicted, kind="stable"))).combine_chunks()
    image, datapoints = _codes(table["datapoint"])
    local, classes = _codes(table["class_name"].fill_null(UNNAMED))
    known = np.array([names.setdefault(name, len(names)) for name in classes], np.intp)
    boxes = np.nan_to_num(np.stack([_floats(table[side]) for side in _SIDES], axis=1))
    masks = bounds = None
    areas = boxes[:, 2] * boxes[:, 3]
    if outlined:
        masks, bounds = _masks(table, image, datapoints, boxes)
        areas = masks.areas.astype(np.float64)
    score = np.nan_to_num(_floats(table["score"]), nan=1.0)
    crowd = np.nan_to_num(_floats(table["crowd"])) != 0
    every = Objects(image, known[local], areas, score, crowd)
    count = int(predicted.sum())
    return Images(
        list(names),
        datapoints,
        every.take(np.arange(count)),
        every.take(np.arange(count, len(image))),
        boxes,
        table["id"].to_pylist(),
        masks,
        bounds,
    )


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
    """Texts as numbers from 0, in the order in which they first occur, and what these mean."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.indices.to_numpy().astype(np.intp), encoded.dictionary.to_pylist()


def _floats(column: pa.ChunkedArray) -> Floats:
    """(N,), NaN where there is no value."""
    numbers: Floats = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return numbers


# -- instances -------------------------------------------------------------------------------


def _masks(
    table: pa.Table, image: NDArray[np.intp], datapoints: list[str], boxes: Floats
) -> tuple[Runs, Floats]:
    """The mask of each row (its own, its polygon, or its box), and the box around it.

    Masks of one image have one size: that of its first true mask, else what its metadata says,
    else as large as its outlines. A mask of another size is resized.
    """
    decoded = {
        row: decode(text) for row, text in enumerate(table["mask"].to_pylist()) if text is not None
    }
    polygons = [
        np.asarray(polygon, np.float64) if polygon is not None and len(polygon) >= 6 else None
        for polygon in _lists(table["polygon"])
    ]
    boxed = rectangles(boxes)
    outlines = [own if own is not None else boxed[row] for row, own in enumerate(polygons)]
    sizes = _sizes(table, image, datapoints, decoded, outlines)
    heights, widths = sizes[image, 0], sizes[image, 1]
    drawn = np.array([row not in decoded for row in range(len(image))], np.bool_)
    rows = np.flatnonzero(drawn)
    parts = [runs_of_polygons([outlines[row] for row in rows], heights[rows], widths[rows])]
    for row, mask in decoded.items():
        plane = np.squeeze(mask)
        parts.append(runs_of_mask(resized(np.atleast_2d(plane), heights[row], widths[row])))
    joined = joined_runs(parts)
    # Polygons come first in `joined`; put every mask back into its row.
    place = np.empty(len(image), np.intp)
    place[np.concatenate([rows, np.array(list(decoded), np.intp)])] = np.arange(len(image))
    runs = joined.take(place)
    return runs, runs.bounds(heights)


def _lists(column: pa.ChunkedArray) -> list[NDArray[np.float64] | None]:
    """The lists of a column as views of one array."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    values = array.values.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy()
    present = array.is_valid().to_numpy(zero_copy_only=False)
    return [
        values[low:high] if there else None
        for low, high, there in zip(offsets[:-1], offsets[1:], present, strict=True)
    ]


def _sizes(
    table: pa.Table,
    image: NDArray[np.intp],
    datapoints: list[str],
    decoded: dict[int, NDArray[Any]],
    outlines: list[Floats],
) -> NDArray[np.int64]:
    """Height and width of each image, (images, 2)."""
    reach = np.zeros((len(datapoints), 2))
    for outline, own in zip(outlines, image.tolist(), strict=True):
        reach[own, 0] = max(reach[own, 0], outline[1::2].max(initial=1))
        reach[own, 1] = max(reach[own, 1], outline[0::2].max(initial=1))
    sizes = np.ceil(np.maximum(reach, 1))
    stated = np.stack([_floats(table["image_height"]), _floats(table["image_width"])], axis=1)
    known = (stated >= 1).all(axis=1)
    sizes[image[known]] = stated[known]
    # True objects come after detections, so theirs decide.
    for row, mask in decoded.items():
        sizes[image[row]] = np.atleast_2d(np.squeeze(mask)).shape[-2:]
    large = np.flatnonzero(sizes.prod(axis=1) > _MAX_PIXELS)
    if len(large):
        height, width = sizes[large[0]]
        raise TooLarge(
            f"datapoint {datapoints[large[0]]}: an image of {height:,.0f} x {width:,.0f} pixels",
            hint="polygons are in pixels; filter such datapoints out",
        )
    return sizes.astype(np.int64)


def resized(mask: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """A mask, (…, …), as (height, width), each pixel that of the nearest.

    >>> resized(np.array([[1, 2]]), 2, 4).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    if mask.shape == (height, width):
        return mask
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    nearest: NDArray[Any] = mask[rows[:, None], columns]
    return nearest
