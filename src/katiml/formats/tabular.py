"""CSV and Parquet: a row for each datapoint, columns named as fields are."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from katiml.errors import InvalidSource
from katiml.formats.items import Item
from katiml.formats.report import Report
from katiml.records.arrays import encode

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS = ("columns",)
WRITE_OPTIONS: tuple[str, ...] = ()
_ROWS = 2_000
# What such columns are called elsewhere.
_USUAL = {
    **dict.fromkeys(
        ("uri", "url", "path", "image", "image_path", "file_name", "filename"), "metadata.uri"
    ),
    **dict.fromkeys(
        ("label", "class", "class_name", "target", "category"), "groundtruth.class_name"
    ),
    **dict.fromkeys(("width", "height"), ""),
    "split": "tags.split",
}
_FIELDS = {
    "id",
    "type",
    "text",
    "metadata",
    "tags",
    "groundtruths",
    "predictions",
    "timestamp",
    "request_id",
    "parent_datapoint",
    "gps_coordinates",
}
_JSON = {"metadata", "tags", "groundtruths", "predictions", "gps_coordinates"}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def read(
    path: Path, report: Report, columns: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """One record a row. A column is a field (`text`, `metadata`), a part of one (`tags.split`,
    `metadata.uri`), or what `columns` {column: field} says; `path`, `label`, `split` and other
    usual names are understood, everything else becomes a part of `metadata`. Empty cells are
    absent. Values of `metadata`, `tags`, `groundtruths` and `predictions` are JSON."""
    rows = _parquet_rows(path) if path.suffix.lower() in (".parquet", ".pq") else _csv_rows(path)
    fields: dict[str, str] = {}
    for row in rows:
        record: dict[str, Any] = {}
        for name, value in row.items():
            if value is None or value == "":
                continue
            if name not in fields:
                fields[name] = _field(name, columns or {}, report)
            field = fields[name]
            if not field:
                continue
            try:
                _put(record, field, value)
            except ValueError as error:
                report.note("cells that are no JSON are left out", f"{name}: {error}")
        record.setdefault("type", "IMAGE" if "uri" in record.get("metadata", {}) else "TEXT")
        report.records += 1
        yield record


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(64 << 20)
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            yield from csv.DictReader(file, restkey="")
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidSource(f"{path} cannot be read as CSV: {error}") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidSource(f"{path} cannot be read as Parquet: {error}") from error


def _field(name: str, columns: dict[str, str], report: Report) -> str:
    """The field that a column fills; empty for none."""
    if name in columns:
        return columns[name]
    if name == "id":
        report.note("ids of another lake are not kept", name)
        return ""
    if name in _FIELDS or name.partition(".")[0] in (*_FIELDS, "groundtruth", "prediction"):
        return name
    usual = _USUAL.get(name.strip().lower())
    return usual or f"metadata.{name.strip()}" if name else ""


def _put(record: dict[str, Any], field: str, value: Any) -> None:
    if field in _JSON and isinstance(value, str):
        value = json.loads(value)
    top, _, rest = field.partition(".")
    if field == "groundtruth.class_name":
        record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": str(value)}]
    elif top in ("metadata", "tags") and rest:
        if top == "metadata" and isinstance(value, str) and _NUMBER.fullmatch(value):
            value = json.loads(value)
        record[top] = {**record.get(top, {}), rest: value}
    elif top in ("metadata", "tags"):
        record[top] = {**record.get(top, {}), **value}
    else:
        record[field] = value


def write(items: Iterable[Item], path: Path, report: Report) -> None:
    """Columns id, type, text, metadata, tags and groundtruths, the last three as JSON: all that
    there is, masks encoded."""
    names = ("id", "type", "text", "metadata", "tags", "groundtruths")
    rows = (_row(item, report) for item in items)
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(rows)
        return
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as sink:
        batch: list[Any] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _ROWS:
                sink.write_table(_table(batch, schema))
                batch = []
        if batch:
            sink.write_table(_table(batch, schema))


def _table(rows: list[Any], schema: pa.Schema) -> pa.Table:
    return pa.table(list(map(list, zip(*rows, strict=True))), schema=schema)


def _row(item: Item, report: Report) -> tuple[str | None, ...]:
    report.records += 1
    parts = (item.metadata, item.tags, item.groundtruths)
    return (item.id, item.type, item.text, *(_json(part) if part else None for part in parts))


def _json(value: Any) -> str:
    return json.dumps(value, default=_encoded, ensure_ascii=False)


def _encoded(value: Any) -> Any:
    return encode(value) if isinstance(value, np.ndarray) else value.item()
