"""The owner's side of a shared lake: serves the engine of this process to other processes."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from katiml.store.engine import Engine, EngineTransaction
from katiml.store.failures import Lost
from katiml.store.loopback import Endpoint, accept_handshake, limit_silence, listen, protocol, wrap
from katiml.store.wire import error_to_message, receive, send

__all__ = ["Owner"]

_CLOSE_SECONDS = 10.0


def idle_limit() -> float:
    """Seconds a client's transaction may be silent before it is rolled back."""
    return float(os.environ.get("KATIML_TRANSACTION_IDLE_SECONDS") or 60.0)


class Owner:
    """Listens on loopback while this process owns the lake; one thread for each connection."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._closing = False
        self._listener = listen()
        self._sessions: dict[threading.Thread, Connection] = {}
        self._sessions_lock = threading.Lock()
        self._endpoint = Endpoint(
            self._listener.getsockname()[1], secrets.token_hex(32), os.getpid(), protocol()
        )
        try:
            self._endpoint.publish(folder)
        except BaseException:
            self._listener.close()
            raise
        threading.Thread(target=self._accept, name="katiml-owner", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                if self._closing:
                    return
                time.sleep(0.05)  # out of file descriptors, for example: others may end
                continue
            connection = wrap(peer)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="katiml-client", daemon=True
            )
            with self._sessions_lock:
                if self._closing:
                    connection.close()
                    return
                self._sessions[thread] = connection
            thread.start()

    def _serve(self, connection: Connection) -> None:
        session = _Session(self._engine, connection)
        try:
            if accept_handshake(connection, self._endpoint.secret):
                session.run()
        except (OSError, EOFError):
            pass  # the client has gone
        finally:
            session.end()
            with self._sessions_lock:
                self._sessions.pop(threading.current_thread(), None)
                connection.close()

    def close(self) -> None:
        """Stop listening, end every session; their clients find the next owner."""
        self._closing = True
        with suppress(OSError):
            self._endpoint.withdraw(self._folder)
        # A thread waiting in accept() does not notice close() alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._sessions_lock:
            threads = list(self._sessions)
            for connection in self._sessions.values():
                _hang_up(connection)
        deadline = time.monotonic() + _CLOSE_SECONDS
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.2)
                if thread.is_alive():
                    self._engine.interrupt()

    def abandon(self) -> None:
        """In a forked child: close this side's copies, or the parent's end would go unnoticed."""
        with suppress(OSError):
            os.close(self._listener.detach())
        for connection in self._sessions.values():
            with suppress(OSError):
                connection.close()


def _hang_up(connection: Connection) -> None:
    """Wake the thread that reads from or writes to this connection; it then ends by itself."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as peer:
        peer.shutdown(socket.SHUT_RDWR)


class _Session:
    """What one connection asks for, one message after the other."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine = engine
        self._connection = connection
        self._transaction: EngineTransaction | None = None
        self._changed = False

    def run(self) -> None:
        while True:
            if self._transaction is not None and not self._connection.poll(idle_limit()):
                return  # hung: others wait for the write lock
            message, table = receive(self._connection)
            try:
                answer, result = self._answer(message, table)
            except (OSError, EOFError):
                raise
            except Exception as error:  # noqa: BLE001  travels to the client
                if isinstance(error, Lost):
                    return
                answer, result = {"error": error_to_message(error)}, None
            send(self._connection, answer, result)

    def end(self) -> None:
        """Undo what was not committed and let the next writer in."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.rollback()
            limit_silence(self._connection, 0.0)

    def _answer(
        self, message: dict[str, Any], table: pa.Table | None
    ) -> tuple[dict[str, Any], pa.Table | None]:
        handler = getattr(self, f"_do_{message.pop('do')}")
        if table is not None:
            message["table"] = table
        result = handler(**message)
        if isinstance(result, pa.Table):
            return {}, result
        return {"result": result}, None

    def _do_ping(self) -> None:
        pass

    def _do_query(self, sql: str, parameters: dict[str, Any]) -> pa.Table:
        return self._engine.query(sql, parameters)

    def _do_stream(self, sql: str, parameters: dict[str, Any]) -> None:
        reader = self._engine.stream(sql, parameters)
        send(self._connection, {}, reader.schema.empty_table())
        for batch in reader:
            send(self._connection, {}, pa.Table.from_batches([batch]))

    def _do_committed(self, token: str) -> bool:
        return self._engine.committed(token)

    def _do_erase(self, tables: list[str]) -> list[str]:
        return self._engine.erase(tables)

    def _do_tidy(self) -> None:
        self._engine.tidy()

    def _do_begin(self, alone: bool) -> None:
        self._transaction = self._engine.begin(alone=alone)
        self._changed = False
        # Also a client that stops in the middle of a message must not keep the write lock.
        limit_silence(self._connection, idle_limit())

    def _do_execute(self, sql: str, parameters: dict[str, Any]) -> int:
        self._changed = True
        return self._running.execute(sql, parameters)

    def _do_query_inside(self, sql: str, parameters: dict[str, Any]) -> pa.Table:
        return self._running.query(sql, parameters)

    def _do_stage(self, name: str, table: pa.Table) -> None:
        self._running.stage(name, table)

    def _do_append(self, name: str, table: pa.Table) -> None:
        self._changed = True
        self._running.append(name, table)

    def _do_serialize(self, name: str) -> None:
        self._running.serialize(name)

    def _do_commit(self, token: str) -> None:
        running = self._running
        try:
            if self._changed:
                # The client looks here when the answer to its commit is lost.
                running.execute(
                    "INSERT INTO lake.commits (id, created_at) VALUES ($token, now())",
                    {"token": token},
                )
            running.commit(token)
        finally:
            self.end()

    def _do_rollback(self) -> None:
        self.end()

    @property
    def _running(self) -> EngineTransaction:
        if self._transaction is None:
            raise Lost("no transaction is running")
        return self._transaction
