"""Deleting rows with everything that hangs on them, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.query.fields import Parameters, quoted
from katiml.query.filters import Condition, compile_filters
from katiml.query.ordering import parse_order, whole_number
from katiml.query.select import json_rows, picking
from katiml.schema import RECORD_TABLES, TABLES

if TYPE_CHECKING:
    from katiml.store import Scope, ScopedTransaction

__all__ = ["delete", "delete_rows"]

_STAGED = "katiml_deleted"
_FOUND = f"id IN (SELECT CAST(id AS UUID) FROM {_STAGED})"


def delete(
    scope: Scope,
    table: str,
    filters: Any = None,
    order_by: str | None = None,
    desc: bool | None = False,
    limit: int | None = None,
    offset: int | None = 0,
    *,
    all: bool = False,
) -> dict[str, int]:
    """Delete the rows a select with these arguments would give; returns counts by table.

    Their attachments go with them: of a datapoint everything including the datapoints made from
    it, of a prediction its boxes, lanes, completions and vectors. Without filters and limit
    `all` has to be True, otherwise InvalidInput is raised.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     delete(Scope(store), "tags", {"left": "name", "op": "=", "right": "split"})
    {'tags': 0}
    """
    pick, condition = _picking(table, filters, order_by, desc, limit, offset, all)

    def work(transaction: ScopedTransaction) -> dict[str, int]:
        _stage(transaction, table, pick, condition)
        return _delete_staged(transaction, table)

    return scope.transact(work)


def delete_rows(
    scope: Scope,
    table: str,
    filters: Any = None,
    order_by: str | None = None,
    desc: bool | None = False,
    limit: int | None = None,
    offset: int | None = 0,
    *,
    all: bool = False,
) -> tuple[bytes, dict[str, int]]:
    """Like `delete`; returns the deleted rows of `table` as a JSON array, and the counts."""
    pick, condition = _picking(table, filters, order_by, desc, limit, offset, all)

    def work(transaction: ScopedTransaction) -> tuple[bytes, dict[str, int]]:
        _stage(transaction, table, pick, condition)
        rows = json_rows(transaction, table, _FOUND)
        return rows, _delete_staged(transaction, table)

    return scope.transact(work)


def _picking(
    table: str,
    filters: Any,
    order_by: str | None,
    desc: bool | None,
    limit: int | None,
    offset: int | None,
    all: bool,
) -> tuple[str, Condition]:
    condition = compile_filters(table, filters)
    limit, offset = whole_number("limit", limit), whole_number("offset", offset) or 0
    if condition.always and limit is None and not all:
        raise InvalidInput(
            f"no filters would delete all {table}",
            hint="pass filters, or all=True if everything is meant",
        )
    parameters = Parameters("o")
    order = parse_order(table, order_by, desc, parameters)
    if limit is None and not offset:
        where = "" if condition.always else f" WHERE {condition.sql}"
        return f"SELECT id FROM {{{table}}}{where}", condition
    values = {**condition.parameters, **parameters.values}
    pick = f"SELECT id {picking(condition.sql, table, order, limit, offset)}"
    return pick, Condition(condition.sql, values)


def _stage(transaction: ScopedTransaction, table: str, pick: str, condition: Condition) -> None:
    """Make the ids to delete readable as a table; of datapoints with all that were made of them."""
    ids = transaction.query(pick, condition.parameters)
    transaction.stage(_STAGED, ids)
    if table != "datapoints":
        return
    while True:
        children = transaction.query(
            f"SELECT id FROM {{datapoints}} WHERE parent_datapoint IN "
            f"(SELECT CAST(id AS UUID) FROM {_STAGED}) AND NOT {_FOUND}"
        )
        if not children.num_rows:
            return
        ids = pa.concat_tables([ids, children])
        transaction.stage(_STAGED, ids)


def _delete_staged(transaction: ScopedTransaction, table: str) -> dict[str, int]:
    transaction.note("delete")
    counts = {table: 0}
    for child in RECORD_TABLES:
        column = TABLES[child].parents.get(table)
        if column is not None:
            counts[child] = transaction.remove(
                child, f"{quoted(column)} IN (SELECT CAST(id AS UUID) FROM {_STAGED})"
            )
    counts[table] = transaction.remove(table, _FOUND)
    return counts
