"""Records that name stored rows: updates, patches, overrides and deletions by null.

Every rule of docs/records.md about what is already in the lake stands here, once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import UNSET

from katiml.errors import InvalidRecord
from katiml.ingest.creations import (
    ATTACHMENTS,
    attachment_tables,
    creations,
    last_of_each,
    merge_metrics,
)
from katiml.ingest.rows import Tables, datapoint_rows, tag_rows
from katiml.records import Classification, Prediction, Record, Rejected
from katiml.records.validate import check_logits
from katiml.schema import TABLES
from katiml.store.ids import uuid7, uuid7_strings
from katiml.store.scope import ScopedTransaction

__all__ = ["Entry", "append", "apply_wave", "refused"]

_CHILDREN = ("bboxes", "lanes", "completions")
_UNIQUE = {
    "groundtruths": ("datapoint", "task_type"),
    "predictions": ("datapoint", "task_type", "model_name"),
}
_CHILD_PATCHED = {
    "bboxes": (
        "class_name",
        "class_names",
        "top",
        "left",
        "height",
        "width",
        "confidence",
        "confidences",
        "objectness",
        "coco_polygon",
    ),
    "lanes": ("coco_polyline", "confidence", "classifications"),
    "completions": ("text", "confidence"),
}
_FIELDS = (
    "type",
    "metadata",
    "text",
    "timestamp",
    "gps_coordinates",
    "parent_datapoint",
    "request_id",
)


@dataclass(slots=True)
class Entry:
    """A record and where it stood."""

    line: int
    record: Record


def refused(line: int, error: InvalidRecord) -> Rejected:
    """A record that is right in itself, but not in this lake; its text is added by the reader."""
    return Rejected(line, error.path, str(error), "")


def append(transaction: ScopedTransaction, tables: Tables, first_row: int) -> None:
    """Insert tables of new rows; `first_row` begins the row numbers of new datapoints."""
    for table, rows in tables.items():
        if table == "datapoints":
            numbers = pa.array(range(first_row, first_row + rows.num_rows), pa.int64())
            transaction.append(table, rows.append_column("row", numbers))
        else:
            transaction.append(table, rows)


def apply_wave(
    transaction: ScopedTransaction, wave: Sequence[Entry], first_row: int
) -> tuple[list[Rejected], int]:
    """Apply records that name each datapoint once: (those refused, datapoints created)."""
    found = _Found(transaction, [entry.record for entry in wave])
    kept: list[Record] = []
    rejected: dict[int, Rejected] = {}
    for entry in wave:
        record = _copied(entry.record)
        try:
            if entry.line in rejected:
                continue
            found.check(record)
        except InvalidRecord as error:
            rejected[entry.line] = refused(entry.line, error)
        else:
            kept.append(record)
    updated = [record for record in kept if record.id is not UNSET]
    created = [record for record in kept if record.id is UNSET]
    append(transaction, creations(created, uuid7(len(created))), first_row)
    if updated:
        _touch(transaction, updated)
        _write_tags(transaction, updated)
        for table in ATTACHMENTS:
            _write_attachments(transaction, table, updated, found)
    return list(rejected.values()), len(created)


def _copied(record: Record) -> Record:
    """A copy whose attachments may be filled: the batch may have to be applied again."""
    result = copy.copy(record)
    for table in ATTACHMENTS:
        items = getattr(record, table)
        if items:
            setattr(result, table, [_copied_attachment(item) for item in items])
    return result


def _copied_attachment(item: Any) -> Any:
    result = copy.copy(item)
    for table in _CHILDREN:
        children = getattr(item, table)
        if children:
            setattr(result, table, [copy.copy(child) for child in children])
    return result


class _Found:
    """What the lake holds of everything that a wave of records names by id."""

    def __init__(self, transaction: ScopedTransaction, records: Sequence[Record]) -> None:
        named: dict[str, set[str]] = {"datapoints": set()}
        for record in records:
            named["datapoints"].update(
                value for value in (record.id, record.parent_datapoint) if value
            )
            for table in ATTACHMENTS:
                for item in getattr(record, table) or ():
                    if item.id is not UNSET:
                        named.setdefault(table, set()).add(item.id)
                    for kind in _CHILDREN:
                        for child in getattr(item, kind) or ():
                            if child.id is not UNSET:
                                named.setdefault(kind, set()).add(child.id)
        self.rows = {table: _rows_of(transaction, table, ids) for table, ids in named.items()}

    def check(self, record: Record) -> None:
        """Raises InvalidRecord where the record names what this organization does not have."""
        for path, value in (("id", record.id), ("parent_datapoint", record.parent_datapoint)):
            if value and value not in self.rows["datapoints"]:
                raise InvalidRecord(
                    f"no datapoint {value}",
                    path=path,
                    hint="send no id to create a datapoint" if path == "id" else None,
                )
        for table in ATTACHMENTS:
            for index, item in enumerate(getattr(record, table) or ()):
                path = f"{table}[{index}]"
                if item.id is UNSET:
                    self._check_children(table, item, path, None)
                    continue
                row = self.rows[table].get(item.id)
                if row is None or row["datapoint"] != record.id:
                    raise InvalidRecord(
                        f"datapoint {record.id} has no {table.removesuffix('s')} {item.id}",
                        path=f"{path}.id",
                        hint="leave the id out to replace by task type",
                    )
                self._check_children(table, item, path, item.id)
                _complete(item, row, path)

    def _check_children(self, table: str, item: Any, path: str, owner: str | None) -> None:
        for kind in _CHILDREN:
            for index, child in enumerate(getattr(item, kind) or ()):
                if child.id is UNSET:
                    continue
                row = self.rows[kind].get(child.id)
                if row is None or owner is None or row[table.removesuffix("s")] != owner:
                    raise InvalidRecord(
                        f"no {kind.removesuffix('s')} {child.id} here",
                        path=f"{path}.{kind}[{index}].id",
                    )
                for name in _CHILD_PATCHED[kind]:
                    if getattr(child, name) is UNSET:
                        _keep(child, name, row)
                merge_metrics(child, row)


def _keep(child: Any, name: str, row: Mapping[str, Any]) -> None:
    # Confidences that are sent decide confidence and class, not those of before.
    derived_now = child.__class__.__name__ == "BoundingBox" and child.confidences
    if name in ("class_name", "confidence") and derived_now:
        return
    value = row[name]
    if name == "classifications" and value:
        value = msgspec.json.decode(value, type=list[Classification])
    setattr(child, name, value)


def _complete(item: Any, row: Mapping[str, Any], path: str) -> None:
    """Give a patched attachment what its logits need to be understood."""
    for name in ("task_type", "model_name", "class_names"):
        if name in row and getattr(item, name, None) is UNSET:
            setattr(item, name, row[name])
    if isinstance(item, Prediction) and item.logits is not UNSET and item.logits is not None:
        try:
            check_logits(item.logits, item.task_type, item.class_names)
        except InvalidRecord as error:
            raise InvalidRecord(error.message, path=f"{path}.logits", hint=error.hint) from None


def _rows_of(
    transaction: ScopedTransaction, table: str, ids: Iterable[str]
) -> dict[str, dict[str, Any]]:
    wanted = sorted(ids)
    if not wanted:
        return {}
    columns = ["id"]
    if table != "datapoints":
        columns = [f'"{column.name}"' for column in TABLES[table].stored]
    transaction.stage("wanted_ids", pa.table({"id": pa.array(wanted)}))
    rows = transaction.query(
        f"SELECT {', '.join(columns)} FROM {{{table}}} "
        "WHERE id IN (SELECT id::UUID FROM wanted_ids)"
    )
    return {str(row["id"]): row for row in rows.to_pylist()}


def _touch(transaction: ScopedTransaction, records: Sequence[Record]) -> None:
    """Mark datapoints as changed, which makes two writers of one datapoint conflict; set fields."""
    changed = [
        record for record in records if any(getattr(record, name) is not UNSET for name in _FIELDS)
    ]
    transaction.stage("touched_ids", pa.table({"id": pa.array([str(item.id) for item in records])}))
    transaction.update(
        "datapoints", "updated_at = now()", "id IN (SELECT id::UUID FROM touched_ids)"
    )
    if not changed:
        return
    rows = datapoint_rows(changed, pa.array([str(record.id) for record in changed]))
    assignments = []
    for name in _FIELDS:
        rows = rows.append_column(
            f"set_{name}", pa.array([getattr(record, name) is not UNSET for record in changed])
        )
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(changed), pa.string()))
        kind = TABLES["datapoints"].columns[name].type
        assignments.append(
            f'CASE WHEN s.set_{name} THEN s."{name}"::{kind} ELSE d."{name}" END AS "{name}"'
        )
    transaction.stage("changed_fields", rows)
    merged = transaction.query(
        f"SELECT d.* REPLACE ({', '.join(assignments)}) FROM {{datapoints}} d "
        "JOIN changed_fields s ON d.id = s.id::UUID"
    )
    transaction.remove("datapoints", "id IN (SELECT id::UUID FROM changed_fields)")
    transaction.append("datapoints", merged)


def _write_tags(transaction: ScopedTransaction, records: Sequence[Record]) -> None:
    cleared = [str(record.id) for record in records if record.tags is None]
    if cleared:
        transaction.stage("cleared_ids", pa.table({"id": pa.array(cleared)}))
        transaction.remove("tags", "datapoint IN (SELECT id::UUID FROM cleared_ids)")
    tagged = [record for record in records if record.tags]
    if not tagged:
        return
    rows = tag_rows(
        [record.tags or {} for record in tagged], pa.array([str(record.id) for record in tagged])
    )
    transaction.stage("sent_tags", rows.select(["datapoint", "name"]))
    transaction.remove(
        "tags", "(datapoint, name) IN (SELECT (datapoint::UUID, name) FROM sent_tags)"
    )
    transaction.append("tags", rows.filter(rows["value"].is_valid()))


def _write_attachments(
    transaction: ScopedTransaction, table: str, records: Sequence[Record], found: _Found
) -> None:
    items: list[Any] = []
    datapoints: list[str] = []
    for record in records:
        own = last_of_each(getattr(record, table) or ())
        items.extend(own)
        datapoints.extend([str(record.id)] * len(own))
    if not items:
        return
    existing = [found.rows[table].get(item.id) if item.id is not UNSET else None for item in items]
    fresh = uuid7_strings(len(items))
    ids = [item.id if item.id is not UNSET else new for item, new in zip(items, fresh, strict=True)]
    if table == "predictions":
        _drop_vectors(transaction, items, existing)
    _drop_children(transaction, table, items)
    known = {id_: row for kind in _CHILDREN for id_, row in found.rows.get(kind, {}).items()}
    tables = attachment_tables(
        table, items, pa.array(ids), pa.array(datapoints), {}, existing, known
    )
    rows = tables[table]
    _replace(transaction, table, rows)
    moments = pa.array(
        [row["created_at"] if row else None for row in existing], pa.timestamp("us", "UTC")
    )
    now = transaction.started_at
    tables[table] = rows.append_column("created_at", moments.fill_null(now))
    for name, own in tables.items():
        transaction.append(name, own)


def _replace(transaction: ScopedTransaction, table: str, rows: pa.Table) -> None:
    """Take away what the new rows stand in for: the same id, or the same key with all below it."""
    key = _UNIQUE[table]
    take = _taking(transaction, table)
    transaction.stage("written", rows.select(["id", *key]))
    same_key = " AND ".join(
        f"a.{name} = w.{name}" + ("::UUID" if name == "datapoint" else "") for name in key
    )
    replaced = transaction.query(
        f"SELECT DISTINCT a.id FROM {{{table}}} a JOIN written w ON {same_key} "
        "WHERE a.id NOT IN (SELECT id::UUID FROM written)"
    )
    if replaced.num_rows:
        transaction.stage("replaced_ids", replaced)
        column = table.removesuffix("s")
        for child, definition in TABLES.items():
            if table in definition.parents:
                take(child, f"{column} IN (SELECT id::UUID FROM replaced_ids)")
        take(table, "id IN (SELECT id::UUID FROM replaced_ids)")
    take(table, "id IN (SELECT id::UUID FROM written)")


def _taking(transaction: ScopedTransaction, table: str) -> Callable[[str, str], int]:
    """How rows that records replace leave: labels are kept, predictions come anew each training."""
    return transaction.delete if table == "predictions" else transaction.remove


def _drop_children(transaction: ScopedTransaction, table: str, items: Sequence[Any]) -> None:
    """A list that is sent for a stored attachment, null and [] too, replaces the old list."""
    take = _taking(transaction, table)
    column = table.removesuffix("s")
    for kind in _CHILDREN:
        owners = [
            item.id for item in items if item.id is not UNSET and getattr(item, kind) is not UNSET
        ]
        if owners:
            transaction.stage("emptied_ids", pa.table({"id": pa.array(owners)}))
            take(kind, f"{column} IN (SELECT id::UUID FROM emptied_ids)")


def _drop_vectors(
    transaction: ScopedTransaction,
    items: Sequence[Prediction],
    existing: Sequence[Mapping[str, Any] | None],
) -> None:
    """Delete the vectors that a patch replaces or takes away; follow a change of model name."""
    whole: list[tuple[str, str]] = []
    single: list[tuple[str, str, str]] = []
    for item, row in zip(items, existing, strict=True):
        if row is None or not isinstance(item.id, str):
            continue
        model, before = item.model_name or "", row["model_name"] or ""
        if model != before:
            transaction.update(
                "feature_vectors",
                "model_name = $model || substr(model_name, $length)",
                "prediction = $id::UUID",
                {"model": model, "length": len(before) + 1, "id": item.id},
            )
        if item.logits is not UNSET:
            whole.extend((item.id, kind) for kind in ("LOGITS", "PXL_ENTROPY", "PXL_VARIANCE"))
        for kind, field_ in (
            ("EMBEDDINGS", item.embeddings),
            ("GRAD_EMBEDDINGS", item.grad_embeddings),
        ):
            if field_ is UNSET:
                continue
            if not field_:
                whole.append((item.id, kind))
            else:
                single.extend(
                    (item.id, kind, f"{model}:{layer}" if layer else model) for layer in field_
                )
    for staged, rows, columns in (
        ("dropped_kinds", whole, ("prediction", "type")),
        ("dropped_vectors", single, ("prediction", "type", "model_name")),
    ):
        if rows:
            arrays = [pa.array(values) for values in zip(*rows, strict=True)]
            transaction.stage(staged, pa.table(dict(zip(columns, arrays, strict=True))))
            casts = ", ".join(["prediction::UUID", *columns[1:]])
            transaction.delete(
                "feature_vectors",
                f"({', '.join(columns)}) IN (SELECT ({casts}) FROM {staged})",
            )
