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

from katiml.ingest.derive import derive, vectors_of
from katiml.ingest.fields import Fields, fields_of, values
from katiml.ingest.rows import (
    CHILDREN,
    Tables,
    attachment_table,
    child_table,
    datapoint_rows,
    datapoint_table,
    tag_rows,
    tag_table,
    vector_table,
)
from katiml.records import Alike, GroundTruth, Prediction, Record
from katiml.store.ids import uuid7

__all__ = [
    "ATTACHMENTS",
    "alike_creations",
    "attachment_tables",
    "creations",
    "last_of_each",
    "merge_metrics",
]

ATTACHMENTS = ("groundtruths", "predictions")
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
        items: list[Any] = list(chain.from_iterable(lists))
        if items:
            owners = np.repeat(np.arange(len(records)), counts)
            datapoints = ids.take(pa.array(owners))
            tables |= attachment_tables(table, items, uuid7(len(items)), datapoints, tables)
    return tables


def alike_creations(alike: Alike, ids: pa.Array) -> Tables:
    """All rows of new datapoints that came as columns."""
    tables = {"datapoints": datapoint_table(alike.datapoints, ids)}
    if alike.tags:
        tables["tags"] = tag_table(alike.tags, ids)
    for table in ATTACHMENTS:
        fields = getattr(alike, table)
        if fields:
            tables |= _own_tables(table, fields, uuid7(len(ids)), ids)
    return tables


def last_of_each(items: Sequence[GroundTruth | Prediction]) -> list[Any]:
    """Of new attachments with one key the last stands, as if they had been sent one by one."""
    last: dict[Any, Any] = {}
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
    tables = _own_tables(table, fields_of(items), ids, datapoints, existing)
    for kind in CHILDREN:
        lists = [own or () for own in map(attrgetter(kind), items)]
        children = list(chain.from_iterable(lists))
        if not children:
            continue
        owner = pa.array(np.repeat(np.arange(len(items)), list(map(len, lists))))
        belongs = {
            "datapoint": datapoints.take(owner),
            table.removesuffix("s"): ids.take(owner),
        }
        rows = child_table(kind, children, belongs, existing_children or {})
        tables[kind] = (
            pa.concat_tables([before[kind], rows], promote_options="permissive")
            if kind in before
            else rows
        )
    return tables


def _own_tables(
    table: str,
    fields: Fields,
    ids: pa.Array,
    datapoints: pa.Array,
    existing: Sequence[Mapping[str, Any] | None] | None = None,
) -> Tables:
    """Rows of attachments, and their vectors."""
    tables: Tables = {}
    if table == "predictions":
        maps = derive(fields, len(ids))
        vectors = vector_table(vectors_of(fields, maps, len(ids)), ids, datapoints)
        if vectors is not None:
            tables["feature_vectors"] = vectors
    if existing is not None:
        _keep(fields, existing)
    tables[table] = attachment_table(table, fields, ids, datapoints, existing)
    return tables


def _keep(fields: Fields, existing: Sequence[Mapping[str, Any] | None]) -> None:
    """A patched attachment keeps what was not mentioned; its metrics are merged."""
    known = [(place, row) for place, row in enumerate(existing) if row is not None]
    for name in _PATCHED:
        own = values(fields, name, len(existing))
        for place, row in known:
            if own[place] is UNSET and name in row:
                own[place] = row[name]
                fields[name] = own
    metrics = values(fields, "metrics", len(existing))
    for place, row in known:
        metrics[place] = _merged(metrics[place], row)
        fields["metrics"] = metrics


def merge_metrics(item: Any, row: Mapping[str, Any]) -> None:
    """Put the metrics that a stored row has under those that were sent for it."""
    item.metrics = _merged(item.metrics, row)


def _merged(metrics: Any, row: Mapping[str, Any]) -> Any:
    if metrics is None or not row["metrics"]:
        return metrics
    return {**orjson.loads(row["metrics"]), **(metrics or {})}
