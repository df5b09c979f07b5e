"""The client's side of a shared lake: the same backend, run by the process that owns the lake."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from katiml.errors import LakeBusy
from katiml.store.failures import Lost
from katiml.store.loopback import Endpoint, connect
from katiml.store.wire import message_to_error, pack_parameters, receive, send

__all__ = ["Client"]

# How long to wait for an answer before asking whether the owner still lives, and how long an
# owner that does not say so (stopped in a debugger, say) is waited for.
_PATIENCE_SECONDS = 10.0
_SILENCE_SECONDS = 60.0


class Client:
    """A backend that forwards to the owner. Connections are kept and used again.

    Raises `Lost` when the owner goes away; `lost` is then True and the home finds the next one.
    """

    def __init__(self, endpoint: Endpoint, first: Connection) -> None:
        self.lost = False
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._idle = [first]
        self._all = weakref.WeakSet([first])

    def take(self) -> Connection:
        """A connection nobody else uses."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = connect(self._endpoint)
        if connection is None:
            self.lost = True
            raise Lost("the process that owned the lake has gone")
        self._all.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Keep a connection that waits for its next message."""
        with self._lock:
            self._idle.append(connection)

    def ask(
        self, connection: Connection, message: dict[str, Any], table: pa.Table | None = None
    ) -> Any:
        """Send one message and wait for its answer; a connection in doubt is closed."""
        try:
            try:
                send(connection, message, table)
                return self.answer(connection)
            except (OSError, EOFError) as error:
                self.lost = True
                raise Lost(f"the process that owned the lake has gone: {error}") from error
        except BaseException as error:
            if not getattr(error, "answered", False):
                connection.close()
            raise

    def answer(self, connection: Connection) -> Any:
        """The next answer: its table, its result, or its error raised."""
        silent_since = None
        while not connection.poll(_PATIENCE_SECONDS):
            if self._owner_lives():
                silent_since = None
                continue
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > _SILENCE_SECONDS:
                raise LakeBusy(
                    f"process {self._endpoint.pid}, which owns the lake, does not answer",
                    hint="resume or end that process",
                )
        answer, table = receive(connection)
        if "error" in answer:
            error = message_to_error(answer["error"])
            error.answered = True  # type: ignore[attr-defined]  # the connection is in order
            raise error
        return table if table is not None else answer.get("result")

    def _owner_lives(self) -> bool:
        connection = connect(self._endpoint)
        if connection is None:
            return False
        connection.close()
        return True

    def _once(self, message: dict[str, Any]) -> Any:
        connection = self.take()
        try:
            return self.ask(connection, message)
        finally:
            if not connection.closed:
                self.give(connection)

    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        packed = pack_parameters(parameters)
        return self._once({"do": "query", "sql": sql, "parameters": packed})

    def stream(self, sql: str, parameters: Mapping[str, Any]) -> pa.RecordBatchReader:
        packed = pack_parameters(parameters)
        connection = self.take()
        try:
            head = self.ask(connection, {"do": "stream", "sql": sql, "parameters": packed})
        except BaseException:
            if not connection.closed:
                self.give(connection)
            raise

        def batches() -> Iterator[pa.RecordBatch]:
            finished = False
            try:
                while True:
                    try:
                        part = self.answer(connection)
                    except (OSError, EOFError) as error:
                        raise LakeBusy(
                            "the process that owned the lake ended while rows were read from it",
                            hint="run the query again",
                        ) from error
                    if part is None:
                        finished = True
                        return
                    yield from part.to_batches()
            finally:
                if finished:
                    self.give(connection)
                else:
                    connection.close()

        return pa.RecordBatchReader.from_batches(head.schema, batches())

    def begin(self, *, alone: bool) -> _ClientTransaction:
        connection = self.take()
        try:
            self.ask(connection, {"do": "begin", "alone": alone})
        except BaseException:
            connection.close()
            raise
        return _ClientTransaction(self, connection)

    def committed(self, token: str) -> bool:
        return bool(self._once({"do": "committed", "token": token}))

    def erase(self, tables: Sequence[str]) -> list[str]:
        return list(self._once({"do": "erase", "tables": list(tables)}))

    def tidy(self) -> None:
        self._once({"do": "tidy"})

    def close(self) -> None:
        """Close every connection; what runs on them is undone by the owner."""
        for connection in list(self._all):
            with suppress(OSError):
                connection.close()

    # In a forked child the parent's connections are closed on this side only, which is the same.
    abandon = close


class _ClientTransaction:
    """A transaction that runs in the owner's process on one connection."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._open = True

    def _ask(self, do: str, table: pa.Table | None = None, **fields: Any) -> Any:
        if self._connection.closed:
            raise Lost("the connection to the owner of the lake is closed")
        return self._client.ask(self._connection, {"do": do, **fields}, table)

    def execute(self, sql: str, parameters: Mapping[str, Any]) -> int:
        return int(self._ask("execute", sql=sql, parameters=pack_parameters(parameters)))

    def query(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        return self._ask("query_inside", sql=sql, parameters=pack_parameters(parameters))

    def stage(self, name: str, table: pa.Table) -> None:
        self._ask("stage", table, name=name)

    def append(self, table: str, rows: pa.Table) -> None:
        self._ask("append", rows, name=table)

    def serialize(self, name: str) -> None:
        self._ask("serialize", name=name)

    def commit(self, token: str) -> None:
        try:
            self._ask("commit", token=token)
        finally:
            self._end()

    def rollback(self) -> None:
        if not self._open:
            return
        try:
            with suppress(Lost, OSError):
                self._ask("rollback")
        finally:
            self._end()

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        if not self._connection.closed:
            self._client.give(self._connection)
