"""A lake in a folder: one DuckDB file, owned by one process at a time and served to the others.

DuckDB's lock on the file elects the owner: whoever attaches it owns the lake until its process
closes it or dies. Everybody else finds the owner through the endpoint file and becomes its client.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from katiml.errors import LakeBusy, StoreError
from katiml.store.client import Client
from katiml.store.engine import Backend, Engine, new_instance
from katiml.store.failures import Locked, translated
from katiml.store.homes import Home, keep_for_ever
from katiml.store.location import FolderLocation
from katiml.store.loopback import Endpoint, connect, protocol
from katiml.store.migrations import prepare
from katiml.store.owner import Owner
from katiml.store.sql import identifier, sql_string

__all__ = ["FileEngine", "FolderHome", "open_engine"]

FILE_NAME = "lake.duckdb"
LOG_BYTES = 64 * 2**20
_READERS_SECONDS = 10.0


def busy_limit() -> float:
    """Seconds to look for an owner that answers before LakeBusy is raised."""
    return float(os.environ.get("KATIML_BUSY_SECONDS") or 60.0)


class FileEngine(Engine):
    """An engine on a DuckDB file, which it writes its log into when the log has grown.

    DuckDB would do so inside a commit, and a commit that fails there may have happened or not.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        super().__init__(connection, str(folder), single_writer=True)
        self._folder = folder
        self._log = folder / f"{FILE_NAME}.wal"

    def keep_copy(self, version: int) -> None:
        """Copy the lake to `lake.duckdb.v<version>.bak`, itself a DuckDB file."""
        kept = self._folder / f"{FILE_NAME}.v{version}.bak"
        unfinished = kept.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        cursor = self.cursor()
        # DuckDB copies: were this process to open and close the file itself, POSIX would drop the
        # lock that makes it the owner.
        with self.guarded():
            cursor.execute(f"ATTACH {sql_string(str(unfinished))} AS kept")
            try:
                cursor.execute("COPY FROM DATABASE lake TO kept")
            finally:
                cursor.execute("DETACH kept")
            unfinished.replace(kept)
        cursor.close()

    def erase(self, tables: Sequence[str]) -> list[str]:
        """Write the tables anew, and write over the blocks where they were."""
        if not self.write_lock.acquire(timeout=self.busy_timeout):
            raise self._occupied()
        cursor = self.cursor()
        try:
            with self.guarded():
                cursor.execute("DROP TABLE IF EXISTS lake.noise")
                cursor.execute("BEGIN TRANSACTION")
                for table in map(identifier, tables):
                    cursor.execute(f"CREATE TABLE lake.rewritten AS FROM lake.{table}")
                    cursor.execute(f"DROP TABLE lake.{table}")
                    cursor.execute(f"ALTER TABLE lake.rewritten RENAME TO {table}")
                cursor.execute("COMMIT")
                self._checkpoint(cursor)
                # DuckDB leaves old bytes in blocks that are free, until it needs them.
                size = cursor.execute(
                    "SELECT free_blocks * block_size FROM pragma_database_size() "
                    "WHERE database_name = 'lake'"
                ).fetchall()[0][0]
                cursor.execute(
                    "CREATE TABLE lake.noise AS SELECT uuid() AS noise FROM range($count)",
                    {"count": size // 16},
                )
                self._checkpoint(cursor)
                cursor.execute("DROP TABLE lake.noise")
                self._checkpoint(cursor)
        finally:
            cursor.close()
            self.write_lock.release()
        return sorted(map(str, self._folder.glob(f"{FILE_NAME}.v*.bak")))

    def _checkpoint(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Write the log into the file; waits a while for readers of what it would overwrite."""
        deadline = time.monotonic() + _READERS_SECONDS
        while True:
            try:
                cursor.execute("CHECKPOINT lake")
            except duckdb.TransactionException as error:
                if time.monotonic() > deadline:
                    raise self._occupied() from error
                time.sleep(0.1)
            else:
                return

    def _occupied(self) -> LakeBusy:
        return LakeBusy(
            f"the lake {self.place} is in use, so its files could not be rewritten",
            hint="it is tried again by the next purge or lake.forget()",
        )

    def settle(self) -> None:
        try:
            if self._log.stat().st_size < LOG_BYTES:
                return
        except FileNotFoundError:
            return
        cursor = self.cursor()
        # Refused while others read what it would overwrite, impossible on a full disk: then the
        # log grows on, and the next commit tries again.
        with suppress(Exception), self.guarded():
            cursor.execute("CHECKPOINT lake")
        cursor.close()


def open_engine(folder: Path) -> FileEngine:
    """Own the lake in `folder`: attach its file, make or upgrade its tables.

    Raises `Locked` when another process owns it.
    """
    place = str(folder)
    connection = new_instance(str(folder / "tmp"))
    try:
        with translated(place):
            # A checkpoint works on a whole row group of a table in memory: a third of DuckDB's own
            # size keeps that small where the rows carry vectors.
            file = sql_string(str(folder / FILE_NAME))
            connection.execute(
                f"ATTACH {file} AS lake (ROW_GROUP_SIZE 40960, STORAGE_VERSION 'latest')"
            )
            connection.execute("SET wal_autocheckpoint = '1TB'")
            connection.execute(f"SET allowed_directories = [{sql_string(place)}]")
            connection.execute("SET enable_external_access = false")
    except BaseException:
        connection.close()
        raise
    engine = FileEngine(connection, folder)
    try:
        prepare(engine)
        _forget_old_commits(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _forget_old_commits(engine: Engine) -> None:
    """Nobody asks any more whether a transaction of yesterday was committed."""
    old = "FROM lake.commits WHERE created_at < now() - INTERVAL 1 DAY"
    if not engine.query(f"SELECT 1 {old} LIMIT 1", {}).num_rows:
        return
    transaction = engine.begin(alone=True)
    try:
        transaction.execute(f"DELETE {old}", {})
        transaction.commit("")
    finally:
        transaction.rollback()


class FolderHome(Home):
    """A folder's lake as this process reaches it: as its owner, or as a client of the owner."""

    def __init__(self, key: str, location: FolderLocation) -> None:
        self._folder = location.folder
        self._engine: Engine | None = None
        self._owner: Owner | None = None
        self._client: Client | None = None
        self._locked = ""
        super().__init__(key)

    def backend(self) -> Backend:
        with self.lock:
            if self._engine is not None:
                if not self._engine.broken:
                    return self._engine
                self.close()
            if self._client is not None:
                if not self._client.lost:
                    return self._client
                # Its other connections may be in use by other threads, which will notice.
                self._client = None
            return self._find()

    def _find(self) -> Backend:
        with translated(str(self._folder)):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise StoreError(
                    f"{self._folder} is not a folder", hint="name a folder for the lake"
                ) from error
        deadline = time.monotonic() + busy_limit()
        pause = 0.002
        while True:
            backend = self._join() or self._own()
            if backend is not None:
                return backend
            if time.monotonic() > deadline:
                raise self._busy()
            # The owner is starting or ending, or several processes compete for a lake left behind.
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(pause * 1.5, 0.1)

    def _join(self) -> Client | None:
        endpoint = Endpoint.read(self._folder)
        if endpoint is None or endpoint.protocol != protocol():
            return None
        connection = connect(endpoint)
        if connection is None:
            return None
        self._client = Client(endpoint, connection)
        return self._client

    def _own(self) -> Engine | None:
        try:
            self._engine = open_engine(self._folder)
        except Locked as error:
            self._locked = str(error)
            return None
        # A disk with no room for the endpoint file can still be read by this process.
        with suppress(OSError):
            self._owner = Owner(self._engine, self._folder)
        return self._engine

    def _busy(self) -> LakeBusy:
        endpoint = Endpoint.read(self._folder)
        if endpoint is not None and endpoint.protocol != protocol():
            return LakeBusy(
                f"process {endpoint.pid} owns the lake {self._folder} with another version "
                "of KatiML",
                hint="use the same version in both, or end that process",
            )
        return LakeBusy(
            f"another process owns the lake {self._folder} and does not answer: {self._locked}",
            hint="end or resume that process",
        )

    def close(self) -> None:
        with self.lock:
            owner, self._owner = self._owner, None
            engine, self._engine = self._engine, None
            client, self._client = self._client, None
            if owner is not None:
                owner.close()
            if engine is not None:
                engine.close()
            if client is not None:
                client.close()

    def abandon(self) -> None:
        if self._owner is not None:
            self._owner.abandon()
        if self._engine is not None:
            keep_for_ever(self._engine)
        if self._client is not None:
            self._client.abandon()
        self._owner = self._engine = self._client = None
