"""What datapoints are labelled with: fingerprints, which of them differ, and as short texts."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import pyarrow as pa
from pyroaring import BitMap

from katiml.schema import TABLES
from katiml.store.bitmaps import from_rows
from katiml.store.scope import Scope
from katiml.store.views import Moment, View, inside

__all__ = ["content_hash", "field_texts", "label_texts", "relabelled", "tag_texts"]

_CHILDREN = ("bboxes", "lanes", "completions")
# Columns that say where and when a row was written, and not what it holds.
_NO_CONTENT = frozenset(
    {"id", "organization_id", "created_at", "updated_at", "datapoint", "groundtruth"}
    | {"prediction", "row", "since", "origins", "request_id"}
)


@cache
def _fingerprint(table: str, alias: str = "") -> str:
    """SQL: a number that stands for what a row of the table holds."""
    names = [column.name for column in TABLES[table].stored if column.name not in _NO_CONTENT]
    columns = ", ".join(f'{alias}"{name}"' for name in names)
    return f"CAST(hash('{table}', {columns}) AS HUGEINT)"


def _groundtruth_rows() -> str:
    """SQL of (datapoint, number): one row for each ground truth and each of its parts."""
    children = " UNION ALL ".join(
        f"SELECT owner.datapoint, CAST(hash(owner.task_type, {_fingerprint(child, 'part.')}) "
        f"AS HUGEINT) AS number FROM {{{child}}} AS part "
        "JOIN {groundtruths} AS owner ON part.groundtruth = owner.id"
        for child in _CHILDREN
    )
    own = _fingerprint("groundtruths")
    return f"SELECT datapoint, {own} AS number FROM {{groundtruths}} UNION ALL {children}"


def _tag_rows() -> str:
    return f"SELECT datapoint, {_fingerprint('tags')} AS number FROM {{tags}}"


def _field_rows() -> str:
    return f"SELECT id AS datapoint, {_fingerprint('datapoints')} AS number FROM {{datapoints}}"


_ROWS = {"groundtruths": _groundtruth_rows, "tags": _tag_rows, "datapoints": _field_rows}


def content_hash(scope: Scope) -> str:
    """40 hexadecimal digits over the datapoints, tags and ground truths that a scope shows.

    Sums do not depend on the order of what is added, so equal content has an equal hash.
    """
    fields = _fingerprint("datapoints")
    (totals,) = scope.query(
        "SELECT CAST(count(*) AS VARCHAR) AS datapoints, "
        f"CAST(sum(CAST(hash(id, {fields}) AS HUGEINT)) AS VARCHAR) AS fields, "
        "(SELECT CAST(sum(CAST(hash(datapoint, number) AS HUGEINT)) AS VARCHAR) "
        f"FROM ({_groundtruth_rows()})) AS truths, "
        "(SELECT CAST(sum(CAST(hash(datapoint, number) AS HUGEINT)) AS VARCHAR) "
        f"FROM ({_tag_rows()})) AS tags FROM {{datapoints}}"
    ).to_pylist()
    text = "\n".join(f"{name} {value or 0}" for name, value in sorted(totals.items()))
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def relabelled(
    scope: Scope,
    members: BitMap,
    before: Moment | None,
    after: Moment | None,
    table: str = "groundtruths",
) -> BitMap:
    """Those of `members` whose ground truths at `after` are others than at `before`; with another
    `table` whose "tags", or whose own fields ("datapoints").

    None is the state of now. Rows that were written again with the same content do not count.
    """
    if before == after or not members:
        return BitMap()
    touched = _touched(scope, before, after, table) & members
    if not touched:
        return touched
    sums = [
        scope.at(View(touched, moment)).query(
            "SELECT place.row, sum(rows.number) AS number FROM "
            f"({_ROWS[table]()}) AS rows JOIN {{datapoints}} AS place ON place.id = rows.datapoint "
            "GROUP BY place.row"
        )
        for moment in (before, after)
    ]
    same = pa.table({"row": sums[0]["row"], "number": sums[0]["number"].cast(pa.string())}).join(
        pa.table({"row": sums[1]["row"], "number": sums[1]["number"].cast(pa.string())}),
        keys=["row", "number"],
        join_type="inner",
    )
    labelled = from_rows(sums[0]["row"]) | from_rows(sums[1]["row"])
    return labelled - from_rows(same["row"])


def _touched(scope: Scope, before: Moment | None, after: Moment | None, table: str) -> BitMap:
    """The rows of datapoints with rows in the table that only one of the two moments shows."""
    parameters: dict[str, Any] = {}
    current, past = _shown(before, "a", parameters), _shown(after, "b", parameters)
    tables = (table, *_CHILDREN) if table == "groundtruths" else (table,)
    parts = []
    for name in tables:
        owned = " AND groundtruth IS NOT NULL" if name in _CHILDREN else ""
        own = "id AS datapoint" if name == "datapoints" else "datapoint"
        parts.append(f"SELECT {own} FROM {{{name}}} WHERE {current[0]} <> {past[0]}{owned}")
        parts.append(f"SELECT {own} FROM {{removed_{name}}} WHERE {current[1]} <> {past[1]}{owned}")
    rows = scope.query(
        f"WITH touched AS MATERIALIZED ({' UNION '.join(parts)}) "
        "SELECT row FROM {datapoints} WHERE id IN (SELECT datapoint FROM touched) "
        "UNION SELECT row FROM {removed_datapoints} WHERE id IN (SELECT datapoint FROM touched)",
        parameters,
    )
    return from_rows(rows.column(0))


def _shown(moment: Moment | None, name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """Whether a moment shows a current row, and whether it shows a removed one, as SQL."""
    if moment is None:
        return "TRUE", "FALSE"
    since, values = inside("since", moment.changes, name)
    until, _ = inside("until", moment.changes, name)
    parameters.update(values)
    return f"({since})", f"({since} AND NOT {until})"


def label_texts(scope: Scope) -> dict[int, list[str]]:
    """The ground truths of each datapoint that a scope shows, by its row, as short texts.

    `CLASSIFICATION cat`, `OBJECT_DETECTION car x2, person`.
    """
    table = scope.query(
        "WITH parts AS (SELECT groundtruth, class_name, count(*) AS number FROM {bboxes} "
        "WHERE groundtruth IS NOT NULL GROUP BY groundtruth, class_name), "
        "boxes AS (SELECT groundtruth, string_agg(coalesce(class_name, '?') || "
        "CASE WHEN number > 1 THEN ' x' || number ELSE '' END, ', ' ORDER BY class_name) AS text "
        "FROM parts GROUP BY groundtruth) "
        "SELECT place.row, list(concat_ws(' ', task_type, class_name, boxes.text) "
        "ORDER BY task_type, class_name) AS texts FROM {groundtruths} AS truths "
        "JOIN {datapoints} AS place ON place.id = truths.datapoint "
        "LEFT JOIN boxes ON boxes.groundtruth = truths.id GROUP BY place.row"
    )
    return dict(zip(table["row"].to_pylist(), table["texts"].to_pylist(), strict=True))


def tag_texts(scope: Scope) -> dict[int, list[str]]:
    """The tags of each datapoint that a scope shows, by its row, as texts `name=value`."""
    table = scope.query(
        "SELECT place.row, list(name || '=' || value ORDER BY name) AS texts FROM {tags} AS tags "
        "JOIN {datapoints} AS place ON place.id = tags.datapoint GROUP BY place.row"
    )
    return dict(zip(table["row"].to_pylist(), table["texts"].to_pylist(), strict=True))


def field_texts(scope: Scope) -> dict[int, list[str]]:
    """The fields of each datapoint that a scope shows, by its row, as texts `name=value`."""
    names = [column for column in TABLES["datapoints"].columns if column not in _NO_CONTENT]
    fields = ", ".join(f"'{name}=' || CAST(\"{name}\" AS VARCHAR)" for name in names)
    table = scope.query(
        f"SELECT row, list_filter([{fields}], lambda text: text IS NOT NULL) AS texts "
        "FROM {datapoints}"
    )
    return dict(zip(table["row"].to_pylist(), table["texts"].to_pylist(), strict=True))
