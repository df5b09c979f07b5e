"""Datapoints of a selection with their targets, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from katiml.lake import Lake
from katiml.training.targets import GROUNDTRUTH_FIELDS, targets_of

__all__ = ["Rows", "ids_of", "read_rows"]

_FIELDS = ("id", "type", "metadata", "text")
_CHUNK = 10_000


class Rows:
    """Rows of datapoints and of their ground truths as Arrow, which processes share when forked.

    `rows[i]` is a dict of id, type, metadata, text, and the targets of the ground truths.
    """

    def __init__(self, datapoints: pa.Table, groundtruths: pa.Table | None) -> None:
        self._datapoints = datapoints.combine_chunks()
        self._columns = _arrays(self._datapoints)
        # A column without any value would cost as much to read as one with.
        self._filled: dict[str, pa.Array] = {}
        self._truths: pa.Table | None = None
        self._first = np.zeros(len(datapoints) + 1, np.int64)
        if groundtruths is not None and len(groundtruths):
            owner = pc.index_in(groundtruths["datapoint"], datapoints["id"].combine_chunks())
            owners = owner.combine_chunks().to_numpy(zero_copy_only=False)
            order = np.argsort(owners, kind="stable")
            self._truths = groundtruths.take(pa.array(order)).combine_chunks()
            self._filled = {
                name: array for name, array in _arrays(self._truths).items() if not _is_empty(array)
            }
            self._first = np.searchsorted(owners[order], np.arange(len(datapoints) + 1))

    def __len__(self) -> int:
        return len(self._datapoints)

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return int(self._datapoints.nbytes + (self._truths.nbytes if self._truths else 0))

    @property
    def ids(self) -> list[str]:
        """The ids of the datapoints, in order."""
        ids: list[str] = self._datapoints["id"].to_pylist()
        return ids

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row = {name: array[index].as_py() for name, array in self._columns.items()}
        row["metadata"] = orjson.loads(row["metadata"]) if row["metadata"] else {}
        if self._truths is not None:
            for place in range(self._first[index], self._first[index + 1]):
                truth = {name: array[place].as_py() for name, array in self._filled.items()}
                row.update(targets_of(truth))
        return row


def _arrays(table: pa.Table) -> dict[str, pa.Array]:
    """The columns of a combined table, each in one piece."""
    return {name: table[name].combine_chunks() for name in table.column_names}


def _is_empty(array: pa.Array) -> bool:
    if pa.types.is_list(array.type):
        return not pc.sum(pc.list_value_length(array)).as_py()
    return bool(array.null_count == len(array))


def ids_of(
    lake: Lake, filters: Any, order_by: str | None, desc: bool, limit: int | None
) -> list[str]:
    """The ids that a selection gives, in its order."""
    table = lake.datapoints.select(filters, ["id"], order_by, desc, limit, form="arrow")
    ids: list[str] = table["id"].to_pylist()
    return ids


def read_rows(lake: Lake, ids: Sequence[str], task_types: Sequence[str] | None) -> Rows:
    """The rows of `ids`, in that order; ids that are gone are left out."""
    datapoints, truths = [], []
    for start in range(0, len(ids), _CHUNK):
        chunk = list(ids[start : start + _CHUNK])
        wanted: list[Any] = [{"left": "id", "op": "in", "right": chunk}]
        datapoints.append(lake.datapoints.select(wanted, list(_FIELDS), form="arrow"))
        if task_types is not None and not task_types:
            continue
        wanted = [{"left": "datapoint", "op": "in", "right": chunk}]
        if task_types is not None:
            wanted.append({"left": "task_type", "op": "in", "right": list(task_types)})
        truths.append(lake.groundtruths.select(wanted, GROUNDTRUTH_FIELDS, form="arrow"))
    if not datapoints:
        empty = [{"left": "id", "op": "in", "right": []}]
        return Rows(lake.datapoints.select(empty, list(_FIELDS), form="arrow"), None)
    table = pa.concat_tables(datapoints)
    places = pc.index_in(pa.array(ids, pa.string()), table["id"].combine_chunks())
    table = table.take(places.drop_null())
    return Rows(table, pa.concat_tables(truths) if truths else None)
