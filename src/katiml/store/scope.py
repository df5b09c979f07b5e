"""One organization's view of a store. Everything above the store uses this.

SQL is a template in which `{datapoints}` (any table of `katiml.schema.TABLES`) stands for the
rows of this organization alone, computed columns included; braces meant literally are doubled.
Values travel as named parameters (`$name`), never in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.schema import RECORD_TABLES, REMOVED, TABLES
from katiml.store.ids import uuid7_strings
from katiml.store.views import EVERYTHING, View, bind, subquery

if TYPE_CHECKING:
    from katiml.store.store import Store, Transaction

__all__ = ["Scope", "ScopedTransaction", "expand"]

T = TypeVar("T")
_ORGANIZATION = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MARK = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")
_UNSCOPED = re.compile(r"\blake\s*\.", re.IGNORECASE)
_NOTHING: Mapping[str, Any] = {}


@lru_cache(maxsize=1024)
def expand(template: str) -> str:
    """Replace `{table}` by the organization's rows of that table, `{{` by `{`.

    >>> expand("SELECT name FROM {tags} WHERE value = '{{}}'")
    "SELECT name FROM (SELECT * FROM lake.tags WHERE organization_id = $organization_id) \
WHERE value = '{}'"
    """
    return _expanded(template, subquery)


def _expanded(template: str, rows_of: Callable[[str], str]) -> str:
    if _UNSCOPED.search(template):
        raise ValueError("scoped SQL names tables as {table}, never as lake.table")

    def replace(match: re.Match[str]) -> str:
        if match.group() in ("{{", "}}"):
            return match.group()[0]
        if match.group(1) is None:
            raise ValueError(f"a single brace in SQL at character {match.start()}: double it")
        return rows_of(match.group(1))

    return _MARK.sub(replace, template)


class _Reader:
    """Statements as one organization and one view of it see them."""

    def __init__(self, organization_id: str, view: View) -> None:
        self.organization_id = organization_id
        self.view = view
        self._own = {**view.parameters, "organization_id": organization_id}

    def statement(
        self, template: str, parameters: Mapping[str, Any] = _NOTHING
    ) -> tuple[str, Mapping[str, Any]]:
        """The SQL that a template stands for here, and its parameters."""
        if self.view.is_everything:
            sql = expand(template)
        else:
            sql = _expanded(template, self.view.subquery)
        return sql, bind(sql, parameters, self._own)


def _table(name: str) -> str:
    if name not in TABLES:
        raise ValueError(f"{name!r} is not a table of the lake")
    return name


class Scope(_Reader):
    """A store as one organization sees it, through a view where one is given.

    >>> import tempfile
    >>> from katiml.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     scope = Scope(store, "default")
    ...     scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist()
    [{'n': 0}]
    """

    def __init__(
        self, store: Store, organization_id: str = "default", view: View = EVERYTHING
    ) -> None:
        if not _ORGANIZATION.match(organization_id):
            raise InvalidInput(
                f"organization id {organization_id!r} is not valid",
                hint="use 1 to 64 letters, digits, _ or -",
            )
        super().__init__(organization_id, view)
        self.store = store

    def __repr__(self) -> str:
        return f"Scope({self.store!r}, {self.organization_id!r})"

    def at(self, view: View) -> Scope:
        """The same organization through a view: its rows of some datapoints, or of the past.

        >>> import tempfile
        >>> from pyroaring import BitMap
        >>> from katiml.store import open_store
        >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        ...     scope = Scope(store).at(View(members=BitMap([3, 5])))
        ...     scope.query("SELECT count(*) AS n FROM {tags}").to_pylist()
        [{'n': 0}]
        """
        return Scope(self.store, self.organization_id, view)

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement in its own snapshot."""
        return self.store.query(*self.statement(sql, parameters))

    def stream(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.RecordBatchReader:
        """Run one reading statement; batches are made as they are taken."""
        return self.store.stream(*self.statement(sql, parameters))

    def transact(self, work: Callable[[ScopedTransaction], T]) -> T:
        """Run `work` in one transaction, again on conflict: it must act on nothing else.

        A transaction that writes is a change, with a number and a row of `changes`. Raises
        InvalidInput through a view of the past, which nothing can change.
        """
        if self.view.moment is not None:
            raise InvalidInput(
                "the past cannot be changed", hint="make the change in the lake as it is now"
            )
        counter = f"changes:{self.organization_id}"
        change = self.store.reserve(counter)
        used = False

        def run(transaction: Transaction) -> T:
            nonlocal used
            scoped = ScopedTransaction(transaction, self.organization_id, change, self.view)
            try:
                result = work(scoped)
                scoped.finish()
                return result
            finally:
                used = used or scoped.used

        try:
            return self.store.transact(run)
        finally:
            if not used:
                self.store.return_number(counter, change)

    def reserve_rows(self, count: int) -> int:
        """The first of `count` consecutive datapoint row numbers that nobody else ever gets."""
        return self.store.reserve("rows", count)


class ScopedTransaction(_Reader):
    """A running transaction that sees and changes one organization's rows alone.

    What it takes away goes to the twins of the tables; at its end one row of `changes` says what it
    did. `note` says how to call it.
    """

    def __init__(
        self,
        transaction: Transaction,
        organization_id: str,
        change: int,
        view: View = EVERYTHING,
    ) -> None:
        super().__init__(organization_id, view)
        self._transaction = transaction
        self._change = change
        # What became of rows: {table: {"added": 3}}.
        self._counts: dict[str, dict[str, int]] = {}
        self._appended: set[str] = set()
        self._note: dict[str, Any] = {"kind": "change"}
        self._summary: dict[str, Any] = {}
        # Whether the number must not serve another transaction.
        self.used = False

    @property
    def started_at(self) -> pa.Scalar:
        """The time this transaction began, in UTC: the `created_at` of what it appends."""
        return self._transaction.started_at

    @property
    def change(self) -> int:
        """The number of the change that this transaction is."""
        self.used = True
        return self._change

    def note(
        self,
        kind: str,
        author: str | None = None,
        *,
        upload: str | None = None,
        undoes: Sequence[int] | None = None,
        summary: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Describe this change: its kind ("ingest", "delete", ...), who made it, and more.

        `summary`, plain JSON values, is kept beside the counts by table. A transaction that
        writes nothing leaves no change behind, described or not.
        """
        self._note = {"kind": kind, "author": author, "upload": upload, "undoes": undoes}
        self._summary = dict(summary)

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement; it sees what this transaction changed."""
        return self._transaction.query(*self.statement(sql, parameters))

    def stage(self, name: str, table: pa.Table) -> None:
        """Make `table` readable as `name` in this transaction's statements."""
        self._transaction.stage(name, table)

    def append(self, table: str, rows: pa.Table) -> None:
        """Insert rows by column name; absent columns are NULL.

        `organization_id` is always this organization's, `since` this change; `created_at`, where
        the column is absent, is the time this transaction began.
        """
        columns = TABLES[_table(table)].columns
        own: dict[str, Any] = {"organization_id": pa.scalar(self.organization_id)}
        if table in RECORD_TABLES:
            own["since"] = pa.scalar(self._change, pa.int64())
        if "created_at" in columns and "created_at" not in rows.column_names:
            own["created_at"] = self._transaction.started_at
        rows = rows.drop_columns([name for name in own if name in rows.column_names])
        for name, value in own.items():
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
        self._transaction.append(table, rows)
        self._appended.add(table)
        self._count(table, "added", rows.num_rows)

    def remove(self, table: str, where: str, parameters: Mapping[str, Any] = _NOTHING) -> int:
        """Move the rows of `table` for which `where` holds to its twin; returns how many.

        What this very change wrote before is deleted: nobody can have seen it.
        """
        columns = ", ".join(f'"{column.name}"' for column in TABLES[_table(table)].stored)
        condition, values = self._where(table, where, parameters)
        moved = self._transaction.execute(
            f"INSERT INTO lake.{REMOVED}{table} ({columns}, until) "
            f"SELECT {columns}, $this_change FROM lake.{table} "
            f"WHERE {condition} AND since <> $this_change",
            {**values, "this_change": self._change},
        )
        if not moved and table not in self._appended:
            return 0
        return self.delete(table, where, parameters)

    def delete(self, table: str, where: str, parameters: Mapping[str, Any] = _NOTHING) -> int:
        """Delete the rows for which `where` holds, for good; returns how many."""
        condition, values = self._where(_table(table), where, parameters)
        count = self._transaction.execute(f"DELETE FROM lake.{table} WHERE {condition}", values)
        self._count(table, "removed", count)
        return count

    def update(
        self,
        table: str,
        assignments: str,
        where: str,
        parameters: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Set `assignments` where `where` holds in the organization's rows; returns how many.

        History does not keep what was there before: of records, remove and append rows instead.
        """
        condition, values = self._where(_table(table), where, parameters)
        count = self._transaction.execute(
            f"UPDATE lake.{table} SET {self.statement(assignments)[0]} WHERE {condition}", values
        )
        if table not in RECORD_TABLES:
            self._count(table, "changed", count)
        return count

    def serialize(self, name: str) -> None:
        """Let at most one of the transactions that say this name commit at a time."""
        self._transaction.serialize(f"{self.organization_id}:{name}")

    def finish(self) -> None:
        """Write the row of `changes` where there was a change: the last thing before the commit."""
        if not self._counts:
            return
        row = {
            "number": pa.array([self._change], pa.int64()),
            "id": pa.array(uuid7_strings(1)),
            "kind": pa.array([self._note["kind"]]),
            "author": pa.array([self._note.get("author")], pa.string()),
            "summary": pa.array([orjson.dumps({**self._summary, "rows": self._counts}).decode()]),
            "upload": pa.array([self._note.get("upload")], pa.string()),
            "undoes": pa.array([self._note.get("undoes")], pa.list_(pa.int64())),
        }
        self.append("changes", pa.table(row))

    def _where(
        self, table: str, where: str, parameters: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        condition, _ = self.statement(where)
        sql = f"organization_id = $organization_id{self.view.where(table)} AND ({condition})"
        return sql, bind(sql, parameters, self._own)

    def _count(self, table: str, what: str, rows: int) -> None:
        if rows and TABLES[table].counts:
            self.used = True
            own = self._counts.setdefault(table, {})
            own[what] = own.get(what, 0) + rows
