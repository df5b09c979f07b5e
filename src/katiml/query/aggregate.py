"""Counts, distinct values and the names that are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from katiml.errors import InvalidFilter
from katiml.query.fields import Field, Parameters, quoted, resolve
from katiml.query.filters import Condition, compile_filters
from katiml.query.ordering import whole_number
from katiml.schema import link

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = [
    "count",
    "distinct",
    "distinct_values",
    "embedding_names",
    "metric_names",
    "model_names",
    "tag_names",
    "within",
]


def count(scope: Scope, table: str, filters: Any = None) -> int:
    """How many rows of `table` pass `filters`.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     count(Scope(store), "datapoints", {"left": "type", "op": "=", "right": "IMAGE"})
    0
    """
    condition = compile_filters(table, filters)
    where = "" if condition.always else f" WHERE {condition.sql}"
    found = scope.query(f"SELECT count(*) AS n FROM {{{table}}}{where}", condition.parameters)
    return int(found.column(0)[0].as_py())


def distinct(
    scope: Scope,
    table: str,
    field: str,
    filters: Any = None,
    limit: int | None = None,
    offset: int | None = 0,
) -> list[Any]:
    """The different values of `field` in the rows of `table` that pass `filters`, sorted.

    `field` may be an attachment's (`groundtruths.class_name`) or a part of JSON
    (`metadata.width`); a list column gives its elements. Missing values are left out. Raises
    InvalidFilter.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     distinct(Scope(store), "datapoints", "groundtruths.class_name")
    []
    """
    wanted = resolve(table, field)
    condition = compile_filters(table, filters)
    return distinct_values(scope, wanted, within(table, wanted.table, condition), limit, offset)


def within(root: str, table: str, condition: Condition) -> Condition:
    """The condition on rows of `table` under which they belong to a row of `root` that passes.

    >>> within("datapoints", "tags", Condition("TRUE", {})).sql
    'TRUE'
    >>> within("groundtruths", "bboxes", Condition("TRUE", {})).sql
    '"groundtruth" IN (SELECT "id" FROM {groundtruths})'
    """
    linked = link(root, table)
    # Everything belongs to a datapoint.
    if table == root or (condition.always and root == "datapoints"):
        return condition
    if linked is None:
        raise ValueError(f"{table} has no link to {root}")
    mine, theirs = map(quoted, linked)
    where = "" if condition.always else f" WHERE {condition.sql}"
    return Condition(f"{theirs} IN (SELECT {mine} FROM {{{root}}}{where})", condition.parameters)


def distinct_values(
    scope: Scope,
    field: Field,
    condition: Condition,
    limit: int | None = None,
    offset: int | None = 0,
    *,
    containing: str = "",
    sort_all: bool = True,
) -> list[Any]:
    """The different values of `field` in the rows of its own table that meet `condition`.

    Only those whose text holds `containing`, in any case. With `sort_all` off, the first `limit`
    that are found, sorted among themselves.
    """
    if field.kind == "bytes":
        raise InvalidFilter(f"{field.key} holds raw bytes, which are not listed")
    parameters = Parameters("d")
    value, text = _value(field, parameters)
    source = f"SELECT DISTINCT {value} AS value, {text} AS text FROM {{{field.table}}}"
    source = source if condition.always else f"{source} WHERE {condition.sql}"
    wheres = ["text IS NOT NULL"]
    if containing:
        wheres.append(f"contains(lower(text), {parameters.add(containing.lower())})")
    size, start = whole_number("limit", limit), whole_number("offset", offset) or 0
    page = ("" if size is None else f" LIMIT {size}") + (f" OFFSET {start}" if start else "")
    order = f" ORDER BY {_sort_key(field)}"
    found = f"SELECT value, text FROM ({source}) WHERE {' AND '.join(wheres)}"
    sql = f"{found}{order}{page}" if sort_all else f"SELECT * FROM ({found}{page}){order}"
    rows = scope.query(sql, {**condition.parameters, **parameters.values})
    return _python_values(field, rows.column("value"))


def _value(field: Field, parameters: Parameters) -> tuple[str, str]:
    """The value of one row, or the elements of its list; and its text."""
    if field.kind == "list":
        element = f"unnest({field.sql()})"
        return element, f"CAST({element} AS VARCHAR)"
    if field.kind == "json":
        return f"CAST({field.json(parameters)} AS VARCHAR)", field.text(parameters)
    return field.sql(), field.text(parameters)


def _sort_key(field: Field) -> str:
    return "TRY_CAST(text AS DOUBLE) NULLS LAST, text" if field.kind == "json" else "value"


def _python_values(field: Field, values: pa.ChunkedArray) -> list[Any]:
    if field.kind == "json":
        return [orjson.loads(text) for text in values.to_pylist()]
    return values.to_pylist()  # type: ignore[no-any-return]


# -- names in use ----------------------------------------------------------------------------


def model_names(
    scope: Scope,
    datapoint_filters: Any = None,
    filters: Any = None,
    limit: int | None = None,
    offset: int | None = 0,
) -> list[str]:
    """The models with predictions that pass `filters`, on datapoints that pass theirs."""
    return _names(scope, "predictions", "model_name", datapoint_filters, filters, limit, offset)


def embedding_names(
    scope: Scope, datapoint_filters: Any = None, limit: int | None = None, offset: int | None = 0
) -> list[str]:
    """The names (`model:layer`) of the embeddings of such datapoints."""
    embeddings = {"left": "type", "op": "=", "right": "EMBEDDINGS"}
    return _names(
        scope, "feature_vectors", "model_name", datapoint_filters, embeddings, limit, offset
    )


def tag_names(
    scope: Scope, datapoint_filters: Any = None, limit: int | None = None, offset: int | None = 0
) -> list[str]:
    """The names of the tags of such datapoints."""
    return _names(scope, "tags", "name", datapoint_filters, None, limit, offset)


def metric_names(scope: Scope, datapoint_filters: Any = None) -> list[str]:
    """The names of the numeric metrics of predictions, their boxes, lanes and completions.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     metric_names(Scope(store))
    []
    """
    names: set[str] = set()
    condition = compile_filters("datapoints", datapoint_filters)
    for table in ("predictions", "bboxes", "lanes", "completions"):
        chosen = within("datapoints", table, condition)
        owned = "" if table == "predictions" else " AND prediction IS NOT NULL"
        examples = scope.query(
            "SELECT key, any_value(metrics) AS example FROM ("
            f"SELECT unnest(json_keys(metrics)) AS key, metrics FROM {{{table}}} "
            f"WHERE metrics IS NOT NULL{owned} AND {chosen.sql}) GROUP BY key",
            chosen.parameters,
        )
        for name, example in zip(*(column.to_pylist() for column in examples.columns), strict=True):
            value = orjson.loads(example).get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                names.add(name)
    return sorted(names)


def _names(
    scope: Scope,
    table: str,
    column: str,
    datapoint_filters: Any,
    filters: Any,
    limit: int | None,
    offset: int | None,
) -> list[str]:
    own = compile_filters(table, filters)
    chosen = within("datapoints", table, compile_filters("datapoints", datapoint_filters, "g"))
    both = Condition(
        own.sql if chosen.always else chosen.sql if own.always else f"({own.sql} AND {chosen.sql})",
        {**own.parameters, **chosen.parameters},
    )
    return distinct_values(scope, resolve(table, column), both, limit, offset)
