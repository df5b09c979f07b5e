"""What a distribution is made of: SQL with one row a sample.

Its columns are datapoint, task_type, weight, and bucket (a text) or value (a number).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from katiml.errors import InvalidFilter, InvalidInput
from katiml.query.aggregate import metric_names, within
from katiml.query.classes import class_samples
from katiml.query.fields import Field, Parameters, quoted, resolve, shown, split, table_of
from katiml.query.filters import Condition, compile_filters
from katiml.query.values import plain
from katiml.schema import LOOKUPS, TABLES, TASK_TYPES

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Samples", "samples_of"]

# What a prediction's boxes, lanes and completions add up to; their other metrics are averaged.
_SUMMED = ("entropy", "variance")
_NAME = re.compile(r"[^./\[\]\"]{1,200}\Z")
_CLASSES_FIRST = "count DESC, bucket"


@dataclass(frozen=True)
class Samples:
    """SQL of the samples, and how their buckets are ordered."""

    sql: str
    parameters: dict[str, Any]
    numeric: bool = False
    title: str | None = None
    order: str = _CLASSES_FIRST


@dataclass(frozen=True)
class _Request:
    """A distribution over rows of `root` that meet `condition`."""

    scope: Scope
    root: str
    condition: Condition
    model_name: str | None
    task_type: str | None

    def rows_of(self, table: str, parameters: Parameters) -> str:
        """WHERE of the rows of `table` that are asked for."""
        conditions = [within(self.root, table, self.condition).sql]
        columns = TABLES[table].columns
        if self.model_name is not None:
            model = f"model_name = {parameters.add(plain(self.model_name))}"
            if "model_name" in columns:
                conditions.append(model)
            elif "prediction" in columns:
                conditions.append(f"prediction IN (SELECT id FROM {{predictions}} WHERE {model})")
            else:
                raise InvalidInput(
                    f"{table} belong to no model, so model_name cannot choose among them",
                    hint="leave model_name out",
                )
        if self.task_type is not None:
            if "task_type" not in columns:
                raise InvalidInput(f"{table} have no task_type", hint="leave task_type out")
            conditions.append(f"task_type = {parameters.add(self.task_type)}")
        return " AND ".join(condition for condition in conditions if condition != "TRUE") or "TRUE"


def samples_of(
    scope: Scope,
    root: str,
    name: str | None,
    filters: Any,
    model_name: str | None,
    task_type: str | None,
) -> Samples:
    """The samples of `name` (see `distribution`) over the rows of `root` that pass `filters`."""
    request = _Request(
        scope, root, compile_filters(root, filters), model_name, _known_task_type(task_type)
    )
    if name is None and root == "datapoints":
        return _of_field(request, resolve(root, "type"))
    if name is None and root not in ("groundtruths", "predictions"):
        return _of_field(request, resolve(root, _natural(root)))
    if name is not None and not isinstance(name, str):
        raise InvalidFilter(
            f"a field is a text such as 'entropy', not {shown(name)}",
            hint="a column, a metric, groundtruths, predictions, or tags.NAME",
        )
    table = root if name is None else table_of(name)
    if table in ("groundtruths", "predictions"):
        return _classes(request, table)
    return _named(request, str(name))


def _natural(root: str) -> str:
    columns = TABLES[root].columns
    named = ("class_name", "name", "model_name")
    return next((column for column in named if column in columns), "datapoint")


def _known_task_type(task_type: str | None) -> str | None:
    known = LOOKUPS["task_type"].get(task_type or "", task_type)
    if known is not None and known not in TASK_TYPES:
        raise InvalidInput(
            f"task_type is {shown(task_type)}", hint=f"task types are: {', '.join(TASK_TYPES)}"
        )
    return known


def _named(request: _Request, name: str) -> Samples:
    head, slash, tag = name.partition("/")
    segments = split(name) or []
    if slash and table_of(head) == "tags":
        return _tag(request, tag)
    inside_tags = len(segments) == 2 and table_of(segments[0]) == "tags"
    if inside_tags and segments[1] not in TABLES["tags"].columns:
        return _tag(request, segments[1])
    try:
        field = resolve(request.root, name)
    except InvalidFilter:
        metric = name.removeprefix("metrics.")
        # `predictions.colour` is a mistake, `iou@0.5` may be a metric.
        if not _NAME.match(metric) and metric not in metric_names(request.scope):
            raise
        if request.root in ("datapoints", "predictions"):
            return _metric(request, metric)
        return _of_field(request, resolve(request.root, f'metrics."{metric}"'))
    is_metric = field.column.name == "metrics" and len(field.path) == 1
    if is_metric and field.table == "predictions":
        return _metric(request, field.path[0])
    return _of_field(request, field)


def _owner(table: str) -> str:
    return "id" if table == "datapoints" else "datapoint"


# -- classes ---------------------------------------------------------------------------------


def _classes(request: _Request, table: str) -> Samples:
    """By class for labels and boxes, by pixels for masks, by number for lanes and words."""
    parameters = Parameters("b")
    rows = request.rows_of(table, parameters)
    values = {**request.condition.parameters, **parameters.values}
    present = request.scope.query(
        f"SELECT DISTINCT task_type FROM {{{table}}} WHERE {rows}", values
    )
    task_types = [kind for kind in present.column("task_type").to_pylist() if kind]
    sql = class_samples(table, rows, task_types)
    counted = "task_type IN ('LANE_DETECTION', 'COMPLETION')"
    return Samples(
        sql,
        values if "{" in sql else {},
        order=f"CASE WHEN {counted} THEN CAST(bucket AS BIGINT) END, {_CLASSES_FIRST}",
    )


# -- metrics and tags ------------------------------------------------------------------------


def _metric(request: _Request, name: str) -> Samples:
    """One value a prediction: its own, otherwise what its boxes, lanes or completions have."""
    parameters = Parameters("b")
    rows = request.rows_of("predictions", parameters)
    # NaN is no sample anyway.
    own = Field("predictions", TABLES["predictions"].columns["metrics"], (name,), exact=False)
    column = TABLES["predictions"].columns.get(name)
    is_column = column is not None and column.type == "DOUBLE"
    value = own.number(parameters)
    if is_column:
        value = f"coalesce({quoted(name)}, {value})"
    together = "sum" if name in _SUMMED else "avg"
    children = [
        child for child in ("bboxes", "lanes", "completions") if _any_predicted(request, child)
    ]
    joins = " ".join(
        f"LEFT JOIN (SELECT prediction AS of_row, {together}({value_of}) AS value "
        f"FROM {{{child}}} WHERE prediction IN (SELECT id FROM picked) GROUP BY prediction) "
        f"AS {child} ON {child}.of_row = picked.id"
        for child in children
        for value_of in [Field(child, TABLES[child].columns["metrics"], (name,)).number(parameters)]
    )
    best = ", ".join(f"{table}.value" for table in ("picked", *children))
    kept = "MATERIALIZED" if children else "NOT MATERIALIZED"
    sql = f"""
        WITH picked AS {kept} (
            SELECT id, datapoint, task_type, {value} AS value FROM {{predictions}} WHERE {rows}
        )
        SELECT datapoint, task_type, 1 AS weight,
            coalesce({best}) AS value
        FROM picked {joins}
    """
    return Samples(
        sql, {**request.condition.parameters, **parameters.values}, numeric=True, title=name
    )


def _any_predicted(request: _Request, table: str) -> bool:
    """Whether any row of the table belongs to a prediction."""
    sql = f"SELECT 1 FROM {{{table}}} WHERE prediction IS NOT NULL LIMIT 1"
    return bool(request.scope.query(sql).num_rows)


def _tag(request: _Request, name: str) -> Samples:
    parameters = Parameters("b")
    rows = request.rows_of("tags", parameters)
    sql = (
        "SELECT datapoint, CAST(NULL AS VARCHAR) AS task_type, value AS bucket, 1 AS weight "
        f"FROM {{tags}} WHERE name = {parameters.add(plain(name))} AND {rows}"
    )
    return Samples(sql, {**request.condition.parameters, **parameters.values}, title=name)


# -- any column ------------------------------------------------------------------------------


def _of_field(request: _Request, field: Field) -> Samples:
    if field.kind == "bytes":
        raise InvalidFilter(f"{field.key} holds raw bytes, which have no distribution")
    parameters = Parameters("b")
    rows = request.rows_of(field.table, parameters)
    numeric = field.kind == "number" or field.column.type == "DOUBLE[]"
    if field.kind == "json":
        numeric = _all_numbers(request, field, rows, parameters)
    if field.kind == "list":
        value = f"unnest({field.sql()})"
    elif field.kind == "time":
        value = f"strftime(make_timestamp(epoch_us({field.sql()})), '%Y-%m-%d')"
    else:
        value = field.number(parameters) if numeric else field.text(parameters)
    typed = f"CAST({value} AS {'DOUBLE' if numeric else 'VARCHAR'})"
    sql = (
        f"SELECT {_owner(field.table)} AS datapoint, CAST(NULL AS VARCHAR) AS task_type, "
        f"{typed} AS {'value' if numeric else 'bucket'}, 1 AS weight "
        f"FROM {{{field.table}}} WHERE {rows}"
    )
    return Samples(
        sql,
        {**request.condition.parameters, **parameters.values},
        numeric=numeric,
        title=field.key,
        order="bucket" if field.kind == "time" else _CLASSES_FIRST,
    )


def _all_numbers(request: _Request, field: Field, rows: str, parameters: Parameters) -> bool:
    """Whether all JSON values there are numbers."""
    number, text = field.number(parameters), field.text(parameters)
    found = request.scope.query(
        f"SELECT count({text}) AS texts, count({number}) AS numbers FROM {{{field.table}}} "
        f"WHERE {rows}",
        {**request.condition.parameters, **parameters.values},
    ).to_pylist()[0]
    return bool(found["texts"]) and found["texts"] == found["numbers"]
