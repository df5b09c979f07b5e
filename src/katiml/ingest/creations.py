"""Records of new datapoints, and new or rewritten attachments, as tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from msgspec import UNSET

from katiml.ingest.derive import derive, derive_children, vectors_of
from katiml.ingest.rows import (
    Attachment,
    Tables,
    attachment_rows,
    children_rows,
    datapoint_rows,
    tag_rows,
    vector_rows,
)
from katiml.records import Record
from katiml.store.ids import uuid7

__all__ = ["ATTACHMENTS", "attachment_tables", "creations", "last_of_each", "merge_metrics"]

ATTACHMENTS = ("groundtruths", "predictions")
_CHILDREN = ("bboxes", "lanes", "completions")
_UNIQUE = {
    "groundtruths": ("datapoint", "task_type"),
    "predictions": ("datapoint", "task_type", "model_name"),
}
_PATCHED = (
    "task_type",
    "model_name",
    "class_name",
    "class_names",
    "top",
    "left",
    "height",
    "width",
    "confidence",
    "confidences",
)


def creations(records: Sequence[Record], ids: pa.Array) -> Tables:
    """All rows of new datapoints."""
    if not records:
        return {}
    tables = {"datapoints": datapoint_rows(records, ids)}
    tags = [own or {} for own in map(attrgetter("tags"), records)]
    if any(tags):
        rows = tag_rows(tags, ids)
        tables["tags"] = rows.filter(rows["value"].is_valid()) if rows["value"].null_count else rows
    for table in ATTACHMENTS:
        lists = [own or () for own in map(attrgetter(table), records)]
        counts = list(map(len, lists))
        if max(counts) > 1:
            lists = [last_of_each(own) if len(own) > 1 else own for own in lists]
            counts = list(map(len, lists))
        items: list[Attachment] = list(chain.from_iterable(lists))
        if items:
            owners = np.repeat(np.arange(len(records)), counts)
            datapoints = ids.take(pa.array(owners))
            tables |= attachment_tables(table, items, uuid7(len(items)), datapoints, tables)
    return tables


def last_of_each(items: Sequence[Attachment]) -> list[Attachment]:
    """Of new attachments with one key the last stands, as if they had been sent one by one."""
    last: dict[Any, Attachment] = {}
    for item in items:
        key = (item.task_type, getattr(item, "model_name", UNSET) or "")
        last[item.id if item.id is not UNSET else key] = item
    return list(last.values())


def attachment_tables(
    table: str,
    items: Sequence[Any],
    ids: pa.Array,
    datapoints: pa.Array,
    before: Tables,
    existing: Sequence[Mapping[str, Any] | None] | None = None,
    existing_children: Mapping[str, Mapping[str, Any]] | None = None,
) -> Tables:
    """Rows of attachments, their children and vectors; children join those already in `before`."""
    if table == "predictions":
        vectors = vector_rows(vectors_of(items, derive(items)), ids, datapoints)
        if existing is not None:
            _fill(items, existing)
    else:
        vectors = None
        if existing is not None:
            _fill(items, existing)
    derive_children(items)
    tables = {table: attachment_rows(table, items, ids, datapoints, existing)}
    if vectors is not None:
        tables["feature_vectors"] = vectors
    for name, rows in children_rows(table, items, ids, datapoints, existing_children).items():
        tables[name] = (
            pa.concat_tables([before[name], rows], promote_options="permissive")
            if name in before
            else rows
        )
    return tables


def _fill(items: Sequence[Any], existing: Sequence[Mapping[str, Any] | None]) -> None:
    """A patched attachment keeps what was not mentioned; its metrics are merged."""
    for item, row in zip(items, existing, strict=True):
        if row is None:
            continue
        for name in _PATCHED:
            if name in row and getattr(item, name, None) is UNSET:
                setattr(item, name, row[name])
        merge_metrics(item, row)


def merge_metrics(item: Any, row: Mapping[str, Any]) -> None:
    """Put the metrics that a stored row has under those that were sent for it."""
    if item.metrics is not None and row["metrics"]:
        item.metrics = {**orjson.loads(row["metrics"]), **(item.metrics or {})}
