"""One organization's view of a store. Everything above the store uses this.

SQL is a template in which `{datapoints}` (any table of `katiml.schema.TABLES`) stands for the
rows of this organization alone, computed columns included; braces meant literally are doubled.
Values travel as named parameters (`$name`), never in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.schema import TABLES

if TYPE_CHECKING:
    from katiml.store.store import Store, Transaction

__all__ = ["Scope", "ScopedTransaction", "expand"]

T = TypeVar("T")
_ORGANIZATION = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MARK = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")
_UNSCOPED = re.compile(r"\blake\s*\.", re.IGNORECASE)
_NOTHING: Mapping[str, Any] = {}


def _subquery(table: str) -> str:
    if table not in TABLES:
        raise ValueError(f"{{{table}}} in SQL is not a table of the lake")
    computed = "".join(
        f', {column.computed} AS "{column.name}"'
        for column in TABLES[table].columns.values()
        if column.computed
    )
    return f"(SELECT *{computed} FROM lake.{table} WHERE organization_id = $organization_id)"


@lru_cache(maxsize=1024)
def expand(template: str) -> str:
    """Replace `{table}` by the organization's rows of that table, `{{` by `{`.

    >>> expand("SELECT name FROM {tags} WHERE value = '{{}}'")
    "SELECT name FROM (SELECT * FROM lake.tags WHERE organization_id = $organization_id) \
WHERE value = '{}'"
    """
    if _UNSCOPED.search(template):
        raise ValueError("scoped SQL names tables as {table}, never as lake.table")

    def replace(match: re.Match[str]) -> str:
        if match.group() in ("{{", "}}"):
            return match.group()[0]
        if match.group(1) is None:
            raise ValueError(f"a single brace in SQL at character {match.start()}: double it")
        return _subquery(match.group(1))

    return _MARK.sub(replace, template)


def _bind(sql: str, parameters: Mapping[str, Any], organization_id: str) -> Mapping[str, Any]:
    if "$organization_id" not in sql:
        return parameters
    return {**parameters, "organization_id": organization_id}


def _table(name: str) -> str:
    if name not in TABLES:
        raise ValueError(f"{name!r} is not a table of the lake")
    return name


class Scope:
    """A store as one organization sees it.

    >>> import tempfile
    >>> from katiml.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     scope = Scope(store, "default")
    ...     scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist()
    [{'n': 0}]
    """

    def __init__(self, store: Store, organization_id: str = "default") -> None:
        if not _ORGANIZATION.match(organization_id):
            raise InvalidInput(
                f"organization id {organization_id!r} is not valid",
                hint="use 1 to 64 letters, digits, _ or -",
            )
        self.store = store
        self.organization_id = organization_id

    def __repr__(self) -> str:
        return f"Scope({self.store!r}, {self.organization_id!r})"

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement in its own snapshot."""
        text = expand(sql)
        return self.store.query(text, _bind(text, parameters, self.organization_id))

    def stream(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.RecordBatchReader:
        """Run one reading statement; batches are made as they are taken."""
        text = expand(sql)
        return self.store.stream(text, _bind(text, parameters, self.organization_id))

    def transact(self, work: Callable[[ScopedTransaction], T]) -> T:
        """Run `work` in one transaction, again on conflict: it must act on nothing else."""
        return self.store.transact(
            lambda transaction: work(ScopedTransaction(transaction, self.organization_id))
        )

    def reserve_rows(self, count: int) -> int:
        """The first of `count` consecutive datapoint row numbers that nobody else ever gets."""
        return self.store.reserve_rows(count)


class ScopedTransaction:
    """A running transaction that sees and changes one organization's rows alone."""

    def __init__(self, transaction: Transaction, organization_id: str) -> None:
        self._transaction = transaction
        self.organization_id = organization_id

    @property
    def started_at(self) -> pa.Scalar:
        """The time this transaction began, in UTC: the `created_at` of what it appends."""
        return self._transaction.started_at

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement; it sees what this transaction changed."""
        text = expand(sql)
        return self._transaction.query(text, _bind(text, parameters, self.organization_id))

    def stage(self, name: str, table: pa.Table) -> None:
        """Make `table` readable as `name` in this transaction's statements."""
        self._transaction.stage(name, table)

    def append(self, table: str, rows: pa.Table) -> None:
        """Insert rows by column name; absent columns are NULL.

        `organization_id` is always this organization's; `created_at`, where the column is absent,
        is the time this transaction began.
        """
        columns = TABLES[_table(table)].columns
        if "organization_id" in rows.column_names:
            rows = rows.drop_columns(["organization_id"])
        owner = pa.repeat(pa.scalar(self.organization_id), rows.num_rows)
        rows = rows.append_column("organization_id", owner)
        if "created_at" in columns and "created_at" not in rows.column_names:
            rows = rows.append_column(
                "created_at", pa.repeat(self._transaction.started_at, rows.num_rows)
            )
        self._transaction.append(table, rows)

    def delete(self, table: str, where: str, parameters: Mapping[str, Any] = _NOTHING) -> int:
        """Delete the organization's rows for which `where` holds; returns how many."""
        return self._transaction.execute(
            f"DELETE FROM lake.{_table(table)} "
            f"WHERE organization_id = $organization_id AND ({expand(where)})",
            {**parameters, "organization_id": self.organization_id},
        )

    def update(
        self,
        table: str,
        assignments: str,
        where: str,
        parameters: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Set `assignments` where `where` holds in the organization's rows; returns how many."""
        return self._transaction.execute(
            f"UPDATE lake.{_table(table)} SET {expand(assignments)} "
            f"WHERE organization_id = $organization_id AND ({expand(where)})",
            {**parameters, "organization_id": self.organization_id},
        )

    def serialize(self, name: str) -> None:
        """Let at most one of the transactions that say this name commit at a time."""
        self._transaction.serialize(f"{self.organization_id}:{name}")
