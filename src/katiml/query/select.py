"""Rows of one table and their attachments, as Arrow, pandas or a stream of JSON.

One statement picks the rows; each attachment table is grouped on its own over those rows and
joined to them, so two of them never multiply each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from katiml.errors import InvalidInput, NotFound
from katiml.query.columns import Attached, Own, json_object, parse_fields, sql_struct
from katiml.query.fields import Parameters, quoted, shown
from katiml.query.filters import compile_filters
from katiml.query.frames import CURSOR, mark_json, to_pandas
from katiml.query.ordering import (
    Order,
    decode_cursor,
    encode_cursor,
    parse_order,
    whole_number,
)
from katiml.query.values import as_uuid
from katiml.schema import TABLES, link

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope, ScopedTransaction

__all__ = ["Selection", "json_rows", "picking", "select"]

# DuckDB itself fetches wide columns last up to this many rows; past it, ids are picked first.
_ENGINE_LATE_ROWS = 50
# Results up to this many rows come in one answer; larger ones batch by batch, because the texts of
# one Arrow column may not pass 2 GB.
_AT_ONCE = 1000


@dataclass(frozen=True)
class _Plan:
    """What a select means: everything but the form of its result."""

    root: str
    columns: list[Own | Attached]
    where: str
    order: Order
    limit: int | None
    offset: int
    parameters: dict[str, Any]

    @property
    def attached(self) -> list[Attached]:
        return [column for column in self.columns if isinstance(column, Attached)]

    @property
    def own(self) -> list[Own]:
        return [column for column in self.columns if isinstance(column, Own)]

    @property
    def paged(self) -> bool:
        """Whether another page may follow."""
        return bool(self.limit) and self.order.seekable


class Selection:
    """The rows of a select. Nothing is read before one of its forms is asked for.

    `next_cursor` continues after the last row read (as `after` of the next select); it is there
    once a full page has been read, and None when no row can follow.
    """

    def __init__(self, scope: Scope, plan: _Plan) -> None:
        self._scope = scope
        self._plan = plan
        self._read = 0
        self.next_cursor: str | None = None

    def arrow(self) -> pa.Table:
        """All rows as one table. JSON columns are text (see `to_pandas`), attachments lists of
        structs."""
        if self._plan.limit is not None and self._plan.limit <= _AT_ONCE:
            self._read, self.next_cursor = 0, None
            sql, parameters = _native(self._plan)
            found = self._scope.query(sql, parameters)
            schema = _schema(self._plan, found.schema)
            batches = [self._finished(batch, schema) for batch in found.to_batches()]
        else:
            reader = self.batches()
            schema, batches = reader.schema, list(reader)
        table = pa.Table.from_batches(batches, schema)
        if self.next_cursor:
            metadata = {**(schema.metadata or {}), CURSOR: self.next_cursor.encode()}
            table = table.replace_schema_metadata(metadata)
        return table

    def pandas(self) -> pd.DataFrame:
        """All rows as a DataFrame (see `to_pandas`)."""
        return to_pandas(self.arrow())

    def batches(self) -> pa.RecordBatchReader:
        """The rows as batches that are made as they are taken, in bounded memory."""
        self._read, self.next_cursor = 0, None
        sql, parameters = _native(self._plan)
        reader = self._scope.stream(sql, parameters)
        schema = _schema(self._plan, reader.schema)
        finished = (self._finished(batch, schema) for batch in reader)
        return pa.RecordBatchReader.from_batches(schema, finished)

    def json(self) -> Iterator[bytes]:
        """The rows as the pieces of one JSON array, written by the database."""
        sql, parameters = _as_json(self._plan)
        return _json_array(self._scope.stream(sql, parameters))

    def _finished(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        plan = self._plan
        self._read += batch.num_rows
        if plan.paged and batch.num_rows and self._read == plan.limit:
            values = [column[-1].as_py() for column in batch.columns[len(plan.columns) :]]
            self.next_cursor = encode_cursor(plan.root, plan.order, values)
        columns = [
            _renamed(array, field.type) for array, field in zip(batch.columns, schema, strict=False)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def select(
    scope: Scope,
    table: str,
    filters: Any = None,
    fields: Sequence[str] | str | None = None,
    order_by: str | None = None,
    desc: bool | None = False,
    limit: int | None = None,
    offset: int | None = 0,
    after: str | None = None,
) -> Selection:
    """The rows of `table` that pass `filters`, with the columns `fields` ask for.

    Without order_by rows come in the order of their creation. `after`, the next_cursor of a page
    or the id of its last row, continues behind it. Raises InvalidFilter and InvalidInput.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     select(Scope(store), "tags", fields=["name", "value"]).pandas().columns.tolist()
    ['name', 'value']
    """
    condition = compile_filters(table, filters)
    parameters = Parameters("o")
    order = parse_order(table, order_by, desc, parameters)
    columns = parse_fields(table, fields)
    where = condition.sql
    if after is not None:
        values = _position(scope, table, order, after, parameters)
        behind = order.after(values, parameters)
        where = behind if condition.always else f"({behind} AND {where})"
    plan = _Plan(
        root=table,
        columns=columns,
        where=where,
        order=order,
        limit=whole_number("limit", limit),
        offset=whole_number("offset", offset) or 0,
        parameters={**condition.parameters, **parameters.values},
    )
    return Selection(scope, plan)


def _position(
    scope: Scope, table: str, order: Order, after: object, parameters: Parameters
) -> list[Any]:
    """The sort values of the row to continue after."""
    if not order.seekable:
        name = order.name or "this order"
        raise InvalidInput(
            f"rows ordered by {name} cannot be continued after one of them",
            hint="leave out after, or order by a column that is no list",
        )
    if not isinstance(after, str):
        raise InvalidInput(
            f"after is {shown(after)}, not a text",
            hint="pass the next_cursor of the page before, or the id of its last row",
        )
    row = as_uuid(after)
    if row is None:
        return decode_cursor(table, order, after)
    found = scope.query(
        f"SELECT {', '.join(order.exported())} FROM {{{table}}} WHERE id = CAST($row AS UUID)",
        {**parameters.values, "row": row},
    )
    if not found.num_rows:
        raise NotFound(
            f"the row {row} of {table} to continue after is not there",
            hint="it may have been deleted meanwhile: use next_cursor, which outlives its row",
        )
    return [column[0].as_py() for column in found.columns]


# -- statements ------------------------------------------------------------------------------


def picking(where: str, root: str, order: Order, limit: int | None, offset: int) -> str:
    """What follows SELECT ...: the rows of `root`, ordered and cut."""
    clauses = [f"FROM {{{root}}}"]
    if where != "TRUE":
        clauses.append(f"WHERE {where}")
    clauses.append(f"ORDER BY {order.clause()}")
    if limit is not None:
        clauses.append(f"LIMIT {limit}")
    if offset:
        clauses.append(f"OFFSET {offset}")
    return " ".join(clauses)


def _picked(plan: _Plan) -> str:
    """FROM, WHERE, ORDER BY and LIMIT of the rows of the result."""
    straight = picking(plan.where, plan.root, plan.order, plan.limit, plan.offset)
    if plan.limit is None:
        return straight
    rows = plan.limit + plan.offset
    narrow = {column.field.column.name for column in plan.own} <= {"id", "created_at"}
    if narrow or (rows <= _ENGINE_LATE_ROWS and plan.where == "TRUE"):
        return straight
    # Only the ids and what orders them are read of every row, the rest of those that are kept.
    return f"FROM {{{plan.root}}} WHERE id IN (SELECT id {straight}) ORDER BY {plan.order.clause()}"


def _native(plan: _Plan) -> tuple[str, dict[str, Any]]:
    """The statement with Arrow's own nested types; columns c0, c1..., then the cursor's."""
    parameters = Parameters("s")
    items = {column.table: sql_struct(column.items, parameters) for column in plan.attached}
    outputs = [
        f"coalesce({column.table}.items, [])"
        if isinstance(column, Attached)
        else column.sql(parameters, as_json=False)
        for column in plan.columns
    ]
    if plan.paged:
        outputs += plan.order.exported()
    return _statement(plan, outputs, items), {**plan.parameters, **parameters.values}


def _as_json(plan: _Plan) -> tuple[str, dict[str, Any]]:
    """The statement with one text a row: its JSON and a comma."""
    parameters = Parameters("s")
    items = {column.table: json_object(column.items, parameters) for column in plan.attached}
    pairs = [
        f"{parameters.add(column.name)}, "
        + (
            f"coalesce({column.table}.items, CAST([] AS JSON[]))"
            if isinstance(column, Attached)
            else column.sql(parameters, as_json=True)
        )
        for column in plan.columns
    ]
    row = f"CAST(json_object({', '.join(pairs)}) AS VARCHAR) || ','"
    return _statement(plan, [row], items), {**plan.parameters, **parameters.values}


def _statement(plan: _Plan, outputs: list[str], items: dict[str, str]) -> str:
    """Outputs are SQL over the row's columns and `<attachment table>.items`."""
    named = ", ".join(f"{sql} AS c{index}" for index, sql in enumerate(outputs))
    if not items:
        return f"SELECT {named} {_picked(plan)}"
    needed = {"id", *plan.order.columns, *(_link(plan.root, table)[0] for table in items)}
    needed |= {column.field.column.name for column in plan.own}
    columns = ", ".join(quoted(name) for name in TABLES[plan.root].columns if name in needed)
    joins = " ".join(_grouped(plan, table, item) for table, item in items.items())
    return (
        f"WITH picked AS MATERIALIZED (SELECT {columns} {_picked(plan)}) "
        f"SELECT {named} FROM picked {joins} ORDER BY {plan.order.clause()}"
    )


def _link(root: str, table: str) -> tuple[str, str]:
    linked = link(root, table)
    if linked is None:
        raise ValueError(f"{table} has no link to {root}")
    return linked


def _grouped(plan: _Plan, table: str, item: str) -> str:
    """A join that adds `items`, the list of a row's attachments in `table`."""
    mine, theirs = map(quoted, _link(plan.root, table))
    everything = plan.where == "TRUE" and plan.limit is None and not plan.offset
    chosen = "" if everything else f" WHERE {theirs} IN (SELECT {mine} FROM picked)"
    # list(... ORDER BY ...) sorts each list on its own, some twenty times slower than list_sort,
    # which goes by the first members of a struct.
    keyed = f"list_sort(list(struct_pack(moment := created_at, id := id, item := {item})))"
    return (
        f"LEFT JOIN (SELECT {theirs} AS of_row, "
        f"list_transform({keyed}, lambda entry: entry.item) AS items "
        f"FROM {{{table}}}{chosen} GROUP BY {theirs}) AS {table} "
        f"ON {table}.of_row = picked.{mine}"
    )


def _json_array(reader: pa.RecordBatchReader) -> Iterator[bytes]:
    """The texts of a one-column stream, each with a comma behind it, as a JSON array."""
    separator = b"["
    for batch in reader:
        text = _joined_text(batch.column(0))
        if text:
            yield separator + text[:-1]
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _joined_text(texts: pa.Array) -> bytes:
    """All texts of an array, one behind the other, without making Python strings of them."""
    if pa.types.is_string_view(texts.type) or texts.null_count:
        texts = texts.drop_null().cast(pa.large_string())
    _, offsets, data = texts.buffers()
    width = 8 if pa.types.is_large_string(texts.type) else 4
    view = memoryview(offsets).cast("q" if width == 8 else "i")
    start, end = view[texts.offset], view[texts.offset + len(texts)]
    return bytes(memoryview(data)[start:end]) if data is not None else b""


def json_rows(transaction: ScopedTransaction, table: str, where: str) -> bytes:
    """The rows of `table` for which `where` holds, as one JSON array, seen by a transaction."""
    parameters = Parameters("s")
    row = json_object(
        [item for item in parse_fields(table, None) if isinstance(item, Own)], parameters
    )
    found = transaction.query(
        f"SELECT CAST({row} AS VARCHAR) || ',' AS c0 FROM {{{table}}} WHERE {where} "
        "ORDER BY created_at, id",
        parameters.values,
    )
    return b"".join(_json_array(found.to_reader()))


# -- Arrow -----------------------------------------------------------------------------------


def _schema(plan: _Plan, found: pa.Schema) -> pa.Schema:
    """The schema of the result: real names, and where JSON is."""
    return pa.schema(
        [_field(column, found.field(index).type) for index, column in enumerate(plan.columns)]
    )


def _field(column: Own | Attached, kind: pa.DataType) -> pa.Field:
    if isinstance(column, Own):
        field = pa.field(column.name, kind)
        return mark_json(field) if column.field.kind == "json" else field
    members = [
        pa.field(item.name, kind.value_type.field(index).type)
        for index, item in enumerate(column.items)
    ]
    json_members = [item.name for item in column.items if item.field.kind == "json"]
    return mark_json(pa.field(column.name, pa.list_(pa.struct(members))), json_members)


def _renamed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type.equals(kind) else array.view(kind)
