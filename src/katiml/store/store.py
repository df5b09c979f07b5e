"""A lake's store: queries and transactions, wherever the lake lives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa

from katiml.errors import Conflict
from katiml.store.engine import BackendTransaction
from katiml.store.failures import Interfered, Lost
from katiml.store.homes import Block, Home, acquire_home, release_home
from katiml.store.location import locate
from katiml.store.objects import Objects
from katiml.store.pauses import Pauses

__all__ = ["Store", "Transaction", "open_store"]

T = TypeVar("T")
_NOTHING: Mapping[str, Any] = {}
# Numbers are taken from the lake many at a time, so that single-record transactions do not pay for
# a second one. What a process leaves unused stays unused. Row numbers start with a large block;
# others double what they take, so that a process that needs one leaves no gap.
_LARGE_BLOCK = 1024


def open_store(url: str | os.PathLike[str] | None = None) -> Store:
    """Open the lake at `url` (see `katiml.store.location.locate`), making it if it is new.

    Raises LakeTooNew, LakeReadOnly, StorageFull, MissingExtra or StoreError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     store.query("SELECT id FROM lake.organizations").to_pylist()
    [{'id': 'default'}]
    """
    return Store(url)


class Transaction:
    """A running transaction. `started_at` is its time, the same for all it writes."""

    def __init__(self, inner: BackendTransaction) -> None:
        self._inner = inner
        self.started_at: pa.Scalar = pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC"))

    def execute(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> int:
        """Run one changing statement; returns how many rows it touched."""
        return self._inner.execute(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement; it sees what this transaction changed."""
        return self._inner.query(sql, parameters)

    def stage(self, name: str, table: pa.Table) -> None:
        """Make `table` readable as `name` in this transaction's statements."""
        self._inner.stage(name, table)

    def append(self, table: str, rows: pa.Table) -> None:
        """Insert rows into `lake.<table>` by column name; absent columns are NULL."""
        if rows.num_rows:
            self._inner.append(table, rows)

    def serialize(self, name: str) -> None:
        """Let at most one of the transactions that say this name commit at a time."""
        self._inner.serialize(name)


class Store:
    """A lake's tables and objects. Safe to share among threads, and usable after a fork.

    All stores of one process on one lake share one DuckDB instance.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        location = locate(url)
        self.url = location.url
        self.objects = Objects(location.objects)
        self._home: Home | None = acquire_home(location)

    def __repr__(self) -> str:
        return f"open_store({self.url!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the lake go; the last store of this process on it also closes its file."""
        home, self._home = self._home, None
        if home is not None:
            release_home(home)

    @property
    def home(self) -> Home:
        """The home of this lake in this process."""
        if self._home is None:
            raise Conflict(f"the lake {self.url} has been closed", hint="open it again")
        return self._home

    def query(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.Table:
        """Run one reading statement in its own snapshot."""
        return self._again(lambda: self.home.backend().query(sql, parameters))

    def stream(self, sql: str, parameters: Mapping[str, Any] = _NOTHING) -> pa.RecordBatchReader:
        """Run one reading statement; batches are made as they are taken, in bounded memory."""
        return self._again(lambda: self.home.backend().stream(sql, parameters))

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work(transaction)` in one transaction and commit it; returns what `work` returns.

        On a conflict or a lost connection everything runs again, so `work` must act on nothing
        but the transaction.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        ...     store.transact(lambda transaction: transaction.execute(
        ...         "UPDATE lake.counters SET value = 7 WHERE name = $name", {"name": "rows"}))
        1
        """
        home = self.home
        with home.transaction():
            return self._transact(home, work)

    def _transact(self, home: Home, work: Callable[[Transaction], T]) -> T:
        token = str(uuid4())
        pauses = Pauses(self.url)
        alone = False
        while True:
            committing = False
            try:
                inner = home.backend().begin(alone=alone)
                try:
                    result = work(Transaction(inner))
                    committing = True
                    inner.commit(token)
                finally:
                    inner.rollback()
                return result
            except Interfered as failure:
                alone = True
                pauses.pause(failure)
            except Lost as failure:
                if committing and self._again(lambda: home.backend().committed(token)):
                    return result
                pauses.pause(failure)

    def _again(self, ask: Callable[[], T]) -> T:
        pauses = Pauses(self.url)
        while True:
            try:
                return ask()
            except (Lost, Interfered) as failure:
                pauses.pause(failure)

    def reserve(self, counter: str, count: int = 1) -> int:
        """The first of `count` consecutive numbers of a counter that nobody else ever gets."""
        home = self.home
        home.refuse_nesting()
        with home.number_lock:
            block = home.blocks.setdefault(counter, Block(_LARGE_BLOCK if counter == "rows" else 1))
            if count == 1 and block.returned:
                return block.returned.pop()
            if block.left < count:
                size = max(count, block.size)
                block.next = self.transact(lambda transaction: _take(transaction, counter, size))
                block.left = size
                block.size = min(block.size * 2, _LARGE_BLOCK)
            first = block.next
            block.next += count
            block.left -= count
            return first

    def return_number(self, counter: str, number: int) -> None:
        """Let a number of `reserve` that was not used serve the next caller."""
        home = self.home
        with home.number_lock:
            block = home.blocks.get(counter)
            if block is not None:
                block.returned.append(number)


def _take(transaction: Transaction, counter: str, size: int) -> int:
    transaction.serialize(counter)
    name = {"name": counter}
    taken = transaction.query("SELECT value FROM lake.counters WHERE name = $name", name)
    if taken.num_rows:
        transaction.execute(
            "UPDATE lake.counters SET value = value + $size WHERE name = $name",
            {**name, "size": size},
        )
        return int(taken.column(0)[0].as_py())
    # Changes count from 1: 0 stands for what was there before any.
    first = 0 if counter == "rows" else 1
    transaction.execute(
        "INSERT INTO lake.counters (name, value) VALUES ($name, $value)",
        {**name, "value": first + size},
    )
    return first
