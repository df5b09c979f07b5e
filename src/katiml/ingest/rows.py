"""Records -> Arrow tables with the columns of `katiml.schema`. Pure: nothing here knows a lake.

>>> import pyarrow as pa
>>> from katiml.records import Record
>>> tag_rows([{"split": "train"}, {}], pa.array(["a", "b"])).to_pydict()["name"]
['split']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import UNSET
from numpy.typing import NDArray

from katiml.ingest.derive import Vector, bound, classify, classify_lanes
from katiml.ingest.fields import Fields, fields_of, sent, values
from katiml.records import Record
from katiml.records.arrays import encode, resize_nearest, to_float16_or_float32
from katiml.records.derived import mask_distribution
from katiml.store.ids import uuid7

__all__ = [
    "CHILDREN",
    "Tables",
    "attachment_table",
    "child_table",
    "datapoint_rows",
    "datapoint_table",
    "tag_rows",
    "tag_table",
    "vector_table",
]

Tables = dict[str, pa.Table]
CHILDREN = ("bboxes", "lanes", "completions")
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


def _column(own: list[Any], type_: pa.DataType) -> pa.Array:
    """Values as an array, null where UNSET."""
    # Comparing every value with UNSET costs more than to find out while converting.
    if own[0] is not UNSET:
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array(own, type_)
    return pa.array([None if value is UNSET else value for value in own], type_)


def _scalars(table: str, fields: Fields) -> dict[str, pa.Array]:
    return {
        name: _column(fields[name], type_)
        for name, type_ in _COLUMNS[table].items()
        if name in fields
    }


def _json(values: Iterable[Any]) -> pa.Array:
    return pa.array(
        [msgspec.json.encode(value).decode() if value else None for value in values], _STRING
    )


def _raw_json(texts: Sequence[Any]) -> pa.Array:
    """JSON texts that lie in buffers -> strings, without an object for each."""
    present = [text or b"" for text in texts]
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
    return datapoint_table(fields_of(records), ids)


def datapoint_table(fields: Fields, ids: pa.Array) -> pa.Table:
    """One row a datapoint, of its fields; `row` is added when it is written."""
    columns: dict[str, pa.Array] = {"id": ids, **_scalars("datapoints", fields)}
    if "metadata" in fields:
        columns["metadata"] = _raw_json(fields["metadata"])
    if "gps_coordinates" in fields:
        columns["gps_coordinates"] = _json(fields["gps_coordinates"])
    return pa.table(columns)


def tag_rows(tags: Sequence[Mapping[str, str | None]], datapoints: pa.Array) -> pa.Table:
    """One row a tag; a null value stays null (it deletes)."""
    names = list(chain.from_iterable(tags))
    own = list(chain.from_iterable(tag.values() for tag in tags))
    counts = np.fromiter(map(len, tags), np.int64, len(tags))
    return _tags(names, own, datapoints, counts)


def tag_table(tags: Fields, datapoints: pa.Array) -> pa.Table:
    """One row a tag, where all datapoints have tags of the same names."""
    own = list(chain.from_iterable(zip(*tags.values(), strict=True)))
    return _tags(list(tags) * len(datapoints), own, datapoints, len(tags))


def _tags(
    names: list[str], own: list[Any], datapoints: pa.Array, counts: int | NDArray[np.int64]
) -> pa.Table:
    return pa.table(
        {
            "id": uuid7(len(names)),
            "datapoint": _repeated(datapoints, counts),
            "name": pa.array(names, _STRING),
            "value": pa.array(own, _STRING),
        }
    )


def _repeated(ids: pa.Array, counts: int | NDArray[np.int64]) -> pa.Array:
    return ids.take(pa.array(np.repeat(np.arange(len(ids)), counts)))


def attachment_table(
    table: str,
    fields: Fields,
    ids: pa.Array,
    datapoints: pa.Array,
    existing: Sequence[Existing] | None = None,
) -> pa.Table:
    """One row a ground truth or prediction, its masks encoded and counted into metrics."""
    count = len(ids)
    columns: dict[str, pa.Array] = {"id": ids, "datapoint": datapoints, **_scalars(table, fields)}
    if table == "predictions":
        models = columns.get("model_name")
        columns["model_name"] = pa.repeat("", count) if models is None else models.fill_null("")
    metrics = fields.get("metrics")
    if "segmentation_class_mask" in fields:
        metrics = _counted(fields, count)
    if metrics is not None:
        columns["metrics"] = _json(metrics)
    return pa.table(columns | _masks("segmentation_class_mask", fields, count, existing))


def _counted(fields: Fields, count: int) -> list[Any]:
    """Metrics with the pixels of each class of the masks."""
    result = values(fields, "metrics", count).copy()
    names = values(fields, "class_names", count)
    for place, mask in enumerate(fields["segmentation_class_mask"]):
        if sent(mask):
            distribution = mask_distribution(mask, names[place] or ())
            result[place] = {**(result[place] or {}), "distribution": distribution}
    return result


def _masks(
    name: str, fields: Fields, count: int, existing: Sequence[Existing] | None
) -> dict[str, pa.Array]:
    """Masks as text, as they are and resized; those not sent stay what they were."""
    plain, resized = f"encoded_{name}", f"encoded_resized_{name}"
    if name not in fields and existing is None:
        return {}
    texts: list[tuple[str | None, str | None]] = []
    for place, mask in enumerate(values(fields, name, count)):
        before = existing[place] if existing else None
        if sent(mask):
            texts.append((encode(mask), encode(resize_nearest(mask))))
        elif mask is UNSET and before is not None:
            texts.append((before[plain], before[resized]))
        else:
            texts.append((None, None))
    if all(text is None for text, _ in texts):
        return {}
    return {
        plain: pa.array([text for text, _ in texts], _STRING),
        resized: pa.array([text for _, text in texts], _STRING),
    }


def child_table(
    table: str,
    children: Sequence[Any],
    ids: dict[str, pa.Array],
    existing: Mapping[str, Existing],
) -> pa.Table:
    """Boxes, lanes or completions of attachments; `ids` says, by column, to which each belongs.

    `existing` holds the rows of children that are sent again with their id.
    """
    if table == "lanes":
        classify_lanes(children)
    fields, count = fields_of(children), len(children)
    columns = {"id": _child_ids(fields, count), **ids}
    if table == "bboxes":
        bound(fields, count)
        classify(fields, count)
        before = [existing.get(id_ or "") for id_ in values(fields, "id", count)]
        columns |= _masks("segmentation_mask", fields, count, before)
    if "classifications" in fields:
        columns["classifications"] = _json(fields["classifications"])
    if "metrics" in fields:
        columns["metrics"] = _json(fields["metrics"])
    return pa.table(columns | _scalars(table, fields))


def _child_ids(fields: Fields, count: int) -> pa.Array:
    fresh = uuid7(count)
    if "id" not in fields:
        return fresh
    # Children that keep their id stand among new ones: all as text.
    return pa.array(
        [
            str(new) if id_ is UNSET else id_
            for id_, new in zip(fields["id"], fresh.to_pylist(), strict=True)
        ],
        _STRING,
    )


def vector_table(vectors: Sequence[Vector], ids: pa.Array, datapoints: pa.Array) -> pa.Table | None:
    """One row a vector, as float16 bytes, or of a wider type where float16 would overflow.

    `ids` and `datapoints` are those of the predictions that `Vector.owner` counts in.
    """
    if not vectors:
        return None
    by_shape: dict[tuple[int, ...], list[Vector]] = {}
    for vector in vectors:
        by_shape.setdefault(vector.values.shape, []).append(vector)
    tables = []
    for shape, own in by_shape.items():
        places, kinds, models, arrays = zip(*own, strict=True)
        owners = pa.array(places)
        dtype, data = _packed(arrays)
        tables.append(
            pa.table(
                {
                    "id": uuid7(len(own)),
                    "datapoint": datapoints.take(owners),
                    "prediction": ids.take(owners),
                    "type": pa.array(kinds, _STRING),
                    "model_name": pa.array(models, _STRING),
                    "dtype": dtype,
                    "shape": pa.repeat(pa.scalar(list(shape), pa.list_(pa.int32())), len(own)),
                    "data": data,
                }
            )
        )
    return pa.concat_tables(tables)


_INFINITE_HALF = 0x7C00


def _packed(arrays: Sequence[NDArray[Any]]) -> tuple[pa.Array, pa.Array]:
    """Arrays of one shape -> (dtype of each, bytes of each)."""
    stacked = np.concatenate([array.reshape(1, -1) for array in arrays])
    with np.errstate(over="ignore"):
        half = stacked.astype("<f2")
    overflows = ((half.view("<u2") & _INFINITE_HALF) == _INFINITE_HALF).any(axis=1)
    if not overflows.any():
        size = half[0].nbytes
        offsets = np.arange(len(arrays) + 1, dtype=np.int64) * size
        data = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(arrays), [None, pa.py_buffer(offsets), pa.py_buffer(half)]
        )
        return pa.repeat("float16", len(arrays)), data
    own = [
        to_float16_or_float32(stacked[row]) if overflow else half[row]
        for row, overflow in enumerate(overflows)
    ]
    kinds = pa.array([array.dtype.name for array in own], _STRING)
    return kinds, pa.array([array.tobytes() for array in own], pa.large_binary())
