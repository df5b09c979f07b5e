"""One DuckDB instance in this process with a lake attached as `lake`, and transactions on it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar
from zlib import crc32

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from katiml.errors import InvalidInput, LakeBusy
from katiml.store.failures import Interfered, Lost, translated
from katiml.store.small import insert_values
from katiml.store.sql import identifier

__all__ = ["Backend", "BackendTransaction", "Engine", "EngineTransaction", "new_instance"]

# What DuckDB makes at a time: rows may be wide (masks, vectors).
STREAM_ROWS = 2048
AnyTransaction = TypeVar("AnyTransaction", bound="EngineTransaction")


class BackendTransaction(Protocol):
    """A transaction of the engine in this process, or of the one in the process that owns it."""

    def execute(self, sql: str, parameters: Mapping[str, Any]) -> int: ...
    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table: ...
    def stage(self, name: str, table: pa.Table) -> None: ...
    def append(self, table: str, rows: pa.Table) -> None: ...
    def serialize(self, name: str) -> None: ...
    def commit(self, token: str) -> None: ...
    def rollback(self) -> None: ...


class Backend(Protocol):
    """What a Store talks to."""

    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table: ...
    def stream(self, sql: str, parameters: Mapping[str, Any]) -> pa.RecordBatchReader: ...
    def begin(self, *, alone: bool) -> BackendTransaction: ...
    def committed(self, token: str) -> bool: ...
    def erase(self, tables: Sequence[str]) -> list[str]: ...
    def tidy(self) -> None: ...


def _encode_vectors(dtype: pa.Array, shape: pa.Array, data: pa.Array) -> pa.Array:
    """The body of the SQL function katiml_encode: raw little-endian bytes -> encoded text."""
    import numpy as np

    from katiml.records import arrays

    encoded = [
        None
        if kind is None or size is None or raw is None
        else arrays.encode(np.frombuffer(raw, np.dtype(kind).newbyteorder("<")).reshape(size))
        for kind, size, raw in zip(
            dtype.to_pylist(), shape.to_pylist(), data.to_pylist(), strict=True
        )
    ]
    return pa.array(encoded, pa.string())


def default_memory_limit() -> str:
    """Half of what this machine (or container) has, as DuckDB spells it."""
    available = float("inf")
    with suppress(OSError, ValueError):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file in (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ):
        with suppress(OSError, ValueError), open(limit_file, encoding="ascii") as file:
            available = min(available, int(file.read()))
    if available == float("inf"):
        return "2GB"
    return f"{int(available) // 2 // 2**20}MiB"


def new_instance(temp_directory: str, **options: Any) -> duckdb.DuckDBPyConnection:
    """Start an empty DuckDB instance, configured as every lake needs it.

    >>> new_instance("tmp").execute("SELECT current_setting('TimeZone')").fetchone()
    ('UTC',)
    """
    memory_limit = os.environ.get("KATIML_MEMORY_LIMIT") or default_memory_limit()
    try:
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": memory_limit,
                "temp_directory": temp_directory,
                # Order comes from ORDER BY alone; without this, large inserts stay bounded.
                "preserve_insertion_order": False,
                # SQL must not reach Python variables of whoever calls.
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                **options,
            },
        )
    except duckdb.Error as error:
        raise InvalidInput(
            f"KATIML_MEMORY_LIMIT={memory_limit!r} is not an amount of memory",
            hint="write it like 4GB or 800MB",
        ) from error
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.create_function(
        "katiml_encode",
        _encode_vectors,
        ["VARCHAR", "INTEGER[]", "BLOB"],
        "VARCHAR",
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    return connection


class Engine:
    """A DuckDB instance with a lake attached; safe to share among threads.

    In a DuckDB file one transaction writes at a time and readers never wait (`single_writer`).
    On DuckLake writers run at once; `alone` makes one run after those of this process that also
    asked to, which is how a transaction that met a conflict tries again.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        place: str,
        *,
        single_writer: bool,
        busy_timeout: float = 600.0,
    ) -> None:
        self.place = place
        self.single_writer = single_writer
        self.write_lock = threading.Lock()
        self.busy_timeout = busy_timeout
        # Set when DuckDB has given the instance up (after a failed write of its log, say): the
        # home then closes it and opens the lake again, which reads the log back.
        self.broken = False
        self.closed = False
        self._root = connection
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Run the block; what DuckDB raises leaves as KatiML's errors."""
        with translated(self.place):
            try:
                yield
            except duckdb.Error as error:
                if self.closed:
                    raise Lost(f"the lake {self.place} was closed meanwhile") from error
                if isinstance(error, duckdb.FatalException | duckdb.InternalException) or (
                    "has been invalidated" in str(error)
                ):
                    self.broken = True
                raise

    def keep_copy(self, version: int) -> None:
        """Keep the lake as it is, written by schema `version`, before it is upgraded."""
        raise NotImplementedError

    def erase(self, tables: Sequence[str]) -> list[str]:
        """Take what was deleted from these tables out of the lake's files, too.

        Returns where copies of the lake lie that still have it. Raises LakeBusy.
        """
        raise NotImplementedError

    def tidy(self) -> None:
        """Give back what files hold that nobody can read any more."""

    def settle(self) -> None:
        """Called after each commit, before the next transaction may write."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same instance."""
        with self.guarded():
            cursor = self._root.cursor()
        self._live.add(cursor)
        return cursor

    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        """Run one reading statement in its own snapshot."""
        cursor = self.cursor()
        try:
            with self.guarded():
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                return cursor.execute(sql, dict(parameters)).to_arrow_table()
        finally:
            cursor.close()

    def stream(self, sql: str, parameters: Mapping[str, Any]) -> pa.RecordBatchReader:
        """Run one reading statement in its own snapshot; batches are made as they are taken."""
        cursor = self.cursor()
        try:
            with self.guarded():
                # DuckDB counts 16 bytes for a text of any length here: with its 1 MB, gigabytes of
                # long texts were made ahead of the reader. Less costs no time.
                cursor.execute("SET streaming_buffer_size = '16KB'")
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                reader = cursor.execute(sql, dict(parameters)).to_arrow_reader(STREAM_ROWS)
        except BaseException:
            cursor.close()
            raise

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                while True:
                    with self.guarded():
                        try:
                            batch = reader.read_next_batch()
                        except StopIteration:
                            return
                    yield batch
            finally:
                cursor.close()

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def begin(self, *, alone: bool) -> EngineTransaction:
        """Start a transaction, waiting for the one before it where only one may write."""
        return self._begin(EngineTransaction, alone=alone)

    def _begin(self, kind: type[AnyTransaction], *, alone: bool) -> AnyTransaction:
        alone = alone or self.single_writer
        if alone and not self.write_lock.acquire(timeout=self.busy_timeout):
            raise LakeBusy(
                f"another transaction has held the lake {self.place} "
                f"for more than {self.busy_timeout:.0f} s",
                hint="try again when it has finished",
            )
        try:
            return kind(self, alone=alone)
        except BaseException:
            if alone:
                self.write_lock.release()
            raise

    def committed(self, token: str) -> bool:
        """Whether the transaction with this token is part of the lake."""
        # Behind the write lock, so that a commit still running has ended one way or the other.
        transaction = self.begin(alone=True)
        try:
            found = transaction.query(
                "SELECT 1 FROM lake.commits WHERE id = $token", {"token": token}
            )
        finally:
            transaction.rollback()
        return bool(found.num_rows)

    def interrupt(self) -> None:
        """Stop every statement that is running."""
        for cursor in list(self._live):
            with suppress(duckdb.Error):
                cursor.interrupt()

    def connections(self) -> list[duckdb.DuckDBPyConnection]:
        """Everything that keeps the DuckDB instance alive."""
        return [self._root, *self._live]

    def close(self) -> None:
        """Write what the log holds into the file and let it go."""
        self.closed = True
        for cursor in list(self._live):
            with suppress(duckdb.Error):
                cursor.close()
        with suppress(duckdb.Error):
            self._root.execute("DETACH lake")
        self._root.close()


class EngineTransaction:
    """A running transaction on one cursor of an Engine."""

    def __init__(self, engine: Engine, *, alone: bool) -> None:
        self._engine = engine
        self._alone = alone
        self._appended = 0
        self._cursor = engine.cursor()
        self._open = True
        with engine.guarded():
            self._cursor.execute("BEGIN TRANSACTION")

    def execute(self, sql: str, parameters: Mapping[str, Any]) -> int:
        with self._engine.guarded():
            result = self._cursor.execute(sql, dict(parameters))
            description = result.description or []
            if [column[0] for column in description] != ["Count"]:
                return 0
            row = result.fetchone()
            return int(row[0]) if row else 0

    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        with self._engine.guarded():
            return self._cursor.execute(sql, dict(parameters)).to_arrow_table()

    def stage(self, name: str, table: pa.Table) -> None:
        with self._engine.guarded():
            self._cursor.register(identifier(name), table)

    def append(self, table: str, rows: pa.Table) -> None:
        few = insert_values(table, rows)
        if few is not None:
            self.execute(*few)
            return
        staged = f"_append_{self._appended}"
        self._appended += 1
        with self._engine.guarded():
            self._cursor.register(staged, rows)
            self._cursor.execute(
                f"INSERT INTO lake.{identifier(table)} BY NAME SELECT * FROM {staged}"
            )
            self._cursor.unregister(staged)

    def serialize(self, name: str) -> None:
        if self._engine.single_writer:
            return
        if not self._alone:
            # Whoever holds the lock will commit after the snapshot this transaction reads, so
            # waiting here would only end in a conflict: start again behind it.
            if not self._engine.write_lock.acquire(blocking=False):
                raise Interfered(name)
            self._alone = True
        self.execute(
            "UPDATE lake.counters SET value = value + 1 WHERE name = $name",
            {"name": serial_counter(name)},
        )

    def commit(self, token: str) -> None:  # noqa: ARG002
        try:
            with self._engine.guarded():
                self._cursor.execute("COMMIT")
            self._engine.settle()
        finally:
            self._end()

    def rollback(self) -> None:
        if not self._open:
            return
        try:
            with suppress(duckdb.Error):
                self._cursor.execute("ROLLBACK")
        finally:
            self._end()

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._cursor.close()
        if self._alone:
            self._engine.write_lock.release()


# Few enough that DuckLake keeps the counters in its catalog instead of a Parquet file.
SERIAL_COUNTERS = 8


def serial_counter(name: str) -> str:
    """The counter that stands for `name`: a few rows made with the lake serve every name.

    A row made on first use could be made twice by two writers, which would not conflict.

    >>> serial_counter("keys:default") == serial_counter("keys:default")
    True
    """
    return f"serialize:{crc32(name.encode()) % SERIAL_COUNTERS}"
