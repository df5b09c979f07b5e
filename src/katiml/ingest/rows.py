"""Records -> Arrow tables with the columns of `katiml.schema`. Pure: nothing here knows a lake.

>>> import pyarrow as pa
>>> from katiml.records import Record
>>> tag_rows([{"split": "train"}, {}], pa.array(["a", "b"])).to_pydict()["name"]
['split']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter, is_
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import UNSET
from numpy.typing import NDArray

from katiml.ingest.derive import Vector
from katiml.records import BoundingBox, Completion, GroundTruth, Lane, Prediction, Record
from katiml.records.arrays import encode, resize_nearest
from katiml.records.derived import mask_distribution
from katiml.store.ids import uuid7

__all__ = [
    "Tables",
    "attachment_rows",
    "children_rows",
    "datapoint_rows",
    "tag_rows",
    "vector_rows",
]

Tables = dict[str, pa.Table]
Attachment = GroundTruth | Prediction
# What an item that is patched had before: its columns by name.
Existing = Mapping[str, Any] | None

_STRING = pa.string()
_DOUBLE = pa.float64()
_STRINGS = pa.list_(pa.string())
_DOUBLES = pa.list_(pa.float64())
_TIMESTAMP = pa.timestamp("us", "UTC")

_SCALARS = {
    "class_name": _STRING,
    "class_names": _STRINGS,
    "top": _DOUBLE,
    "left": _DOUBLE,
    "height": _DOUBLE,
    "width": _DOUBLE,
}
_CONFIDENCES = {"confidence": _DOUBLE, "confidences": _DOUBLES}
_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "datapoints": {
        "type": _STRING,
        "text": _STRING,
        "request_id": _STRING,
        "timestamp": _TIMESTAMP,
        "parent_datapoint": _STRING,
    },
    "groundtruths": {"task_type": _STRING, **_SCALARS},
    "predictions": {"task_type": _STRING, "model_name": _STRING, **_SCALARS, **_CONFIDENCES},
    "bboxes": {**_SCALARS, **_CONFIDENCES, "objectness": _DOUBLE, "coco_polygon": _DOUBLES},
    "lanes": {"coco_polyline": _DOUBLES, "confidence": _DOUBLE},
    "completions": {"text": _STRING, "confidence": _DOUBLE},
}


def _values(items: Sequence[Any], name: str) -> list[Any] | None:
    """The attribute of each item, None where absent; None when all are absent."""
    values = list(map(attrgetter(name), items))
    absent = sum(map(is_, values, repeat(UNSET)))
    if absent == len(values):
        return None
    return [None if value is UNSET else value for value in values] if absent else values


def _column(items: Sequence[Any], name: str, type_: pa.DataType) -> pa.Array | None:
    """The attribute of each item as an array, null where absent; None when all are absent."""
    values = list(map(attrgetter(name), items))
    if values[0] is UNSET:
        if values.count(UNSET) == len(values):
            return None
    else:
        # Comparing every value with UNSET costs more than to find out while converting.
        try:
            return pa.array(values, type_)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
    return pa.array([None if value is UNSET else value for value in values], type_)


def _scalars(table: str, items: Sequence[Any]) -> dict[str, pa.Array]:
    columns = {name: _column(items, name, type_) for name, type_ in _COLUMNS[table].items()}
    return {name: column for name, column in columns.items() if column is not None}


def _json(values: Iterable[Any]) -> pa.Array:
    return pa.array(
        [msgspec.json.encode(value).decode() if value else None for value in values], _STRING
    )


def _raw_json(values: Sequence[Any]) -> pa.Array:
    """JSON texts that lie in buffers -> strings, without an object for each."""
    present = [value or b"" for value in values]
    lengths = np.fromiter(map(len, present), np.int64, len(present))
    offsets = np.zeros(len(present) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    absent = lengths == 0
    array = pa.LargeStringArray.from_buffers(
        len(present), pa.py_buffer(offsets), pa.py_buffer(b"".join(present))
    )
    if not absent.any():
        return array
    return pa.compute.if_else(pa.array(absent), pa.scalar(None, pa.large_string()), array)


def datapoint_rows(records: Sequence[Record], ids: pa.Array) -> pa.Table:
    """One row a record; `row` is added when it is written."""
    columns: dict[str, pa.Array] = {"id": ids, **_scalars("datapoints", records)}
    metadata = _values(records, "metadata")
    if metadata is not None:
        columns["metadata"] = _raw_json(metadata)
    coordinates = _values(records, "gps_coordinates")
    if coordinates is not None:
        columns["gps_coordinates"] = _json(coordinates)
    return pa.table(columns)


def tag_rows(tags: Sequence[Mapping[str, str | None]], datapoints: pa.Array) -> pa.Table:
    """One row a tag; a null value stays null (it deletes)."""
    names = list(chain.from_iterable(tags))
    values = list(chain.from_iterable(own.values() for own in tags))
    counts = np.fromiter(map(len, tags), np.int64, len(tags))
    return pa.table(
        {
            "id": uuid7(len(names)),
            "datapoint": datapoints.take(pa.array(np.repeat(np.arange(len(tags)), counts))),
            "name": pa.array(names, _STRING),
            "value": pa.array(values, _STRING),
        }
    )


def attachment_rows(
    table: str,
    items: Sequence[Attachment],
    ids: pa.Array,
    datapoints: pa.Array,
    existing: Sequence[Existing] | None = None,
) -> pa.Table:
    """One row a ground truth or prediction, its masks encoded and counted into metrics."""
    columns: dict[str, pa.Array] = {"id": ids, "datapoint": datapoints, **_scalars(table, items)}
    if table == "predictions":
        names = [item.model_name or "" for item in items]  # type: ignore[union-attr]
        columns["model_name"] = pa.array(names, _STRING)
    _add_masks(columns, items, "segmentation_class_mask", existing)
    for item, mask in zip(items, _values(items, "segmentation_class_mask") or (), strict=False):
        if mask is not None:
            names = item.class_names or []
            item.metrics = {
                **(item.metrics or {}),
                "distribution": dict(mask_distribution(mask, names)),
            }
    _add_metrics(columns, items)
    return pa.table(columns)


def _add_metrics(columns: dict[str, pa.Array], items: Sequence[Any]) -> None:
    metrics = _values(items, "metrics")
    if metrics is not None:
        columns["metrics"] = _json(metrics)


def _add_masks(
    columns: dict[str, pa.Array],
    items: Sequence[Any],
    name: str,
    existing: Sequence[Existing] | None,
) -> None:
    plain, resized = f"encoded_{name}", f"encoded_resized_{name}"
    masks = _values(items, name)
    if masks is None and existing is None:
        return
    texts: list[tuple[str | None, str | None]] = []
    for index, mask in enumerate(map(attrgetter(name), items)):
        before = existing[index] if existing else None
        if mask is UNSET and before is not None:
            texts.append((before[plain], before[resized]))
        elif mask is UNSET or mask is None:
            texts.append((None, None))
        else:
            texts.append((encode(mask), encode(resize_nearest(mask))))
    if any(text is not None for text, _ in texts):
        columns[plain] = pa.array([text for text, _ in texts], _STRING)
        columns[resized] = pa.array([text for _, text in texts], _STRING)


def children_rows(
    parent: str,
    items: Sequence[Attachment],
    ids: pa.Array,
    datapoints: pa.Array,
    existing: Mapping[str, Existing] | None = None,
) -> Tables:
    """The boxes, lanes and completions of attachments of the table `parent`.

    `existing` holds the rows of children that are sent again with their id.
    """
    tables: Tables = {}
    for table in ("bboxes", "lanes", "completions"):
        lists = [own or () for own in _values(items, table) or ()]
        children = list(chain.from_iterable(lists))
        if not children:
            continue
        before = [(existing or {}).get(child.id or "") for child in children]
        owner = pa.array(np.repeat(np.arange(len(items)), list(map(len, lists))))
        columns = {
            "id": _child_ids(children),
            "datapoint": datapoints.take(owner),
            parent.removesuffix("s"): ids.take(owner),
            **_child_columns(table, children, before),
        }
        tables[table] = pa.table(columns)
    return tables


def _child_ids(children: Sequence[BoundingBox | Lane | Completion]) -> pa.Array:
    fresh = uuid7(len(children))
    if all(child.id is UNSET for child in children):
        return fresh
    # Children that keep their id stand among new ones: all as text.
    texts = [str(value) for value in fresh.to_pylist()]
    return pa.array(
        [
            text if child.id is UNSET else child.id
            for child, text in zip(children, texts, strict=True)
        ],
        _STRING,
    )


def _child_columns(
    table: str, children: Sequence[Any], before: Sequence[Existing]
) -> dict[str, pa.Array]:
    columns = _scalars(table, children)
    if table == "bboxes":
        _add_masks(columns, children, "segmentation_mask", before)
    if table == "lanes":
        classifications = [
            None if child.classifications is UNSET else child.classifications for child in children
        ]
        columns["classifications"] = _json(classifications)
    _add_metrics(columns, children)
    return columns


def vector_rows(vectors: Sequence[Vector], ids: pa.Array, datapoints: pa.Array) -> pa.Table | None:
    """One row a vector, as float16 bytes, or float32 where float16 would overflow.

    `ids` and `datapoints` are those of the predictions that `Vector.owner` counts in.
    """
    if not vectors:
        return None
    by_shape: dict[tuple[int, ...], list[Vector]] = {}
    for vector in vectors:
        by_shape.setdefault(vector.values.shape, []).append(vector)
    tables = []
    for shape, own in by_shape.items():
        owners = pa.array([vector.owner for vector in own])
        dtype, data = _packed([vector.values for vector in own])
        tables.append(
            pa.table(
                {
                    "id": uuid7(len(own)),
                    "datapoint": datapoints.take(owners),
                    "prediction": ids.take(owners),
                    "type": pa.array([vector.type for vector in own], _STRING),
                    "model_name": pa.array([vector.model_name for vector in own], _STRING),
                    "dtype": dtype,
                    "shape": pa.repeat(pa.scalar(list(shape), pa.list_(pa.int32())), len(own)),
                    "data": data,
                }
            )
        )
    return pa.concat_tables(tables)


def _packed(arrays: Sequence[NDArray[Any]]) -> tuple[pa.Array, pa.Array]:
    """Arrays of one shape -> (dtype of each, bytes of each)."""
    stacked = np.stack(arrays)
    with np.errstate(over="ignore"):
        half = stacked.astype("<f2")
    overflows = ~np.isfinite(half).reshape(len(arrays), -1).all(axis=1)
    if not overflows.any():
        size = half[0].nbytes
        offsets = np.arange(len(arrays) + 1, dtype=np.int64) * size
        data = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(arrays), [None, pa.py_buffer(offsets), pa.py_buffer(half)]
        )
        return pa.repeat("float16", len(arrays)), data
    values = [
        (stacked[row].astype("<f4") if overflow else half[row]).tobytes()
        for row, overflow in enumerate(overflows)
    ]
    kinds = np.where(overflows, "float32", "float16")
    return pa.array(kinds, _STRING), pa.array(values, pa.large_binary())
