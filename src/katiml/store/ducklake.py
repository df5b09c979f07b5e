"""A lake on DuckLake: catalog in PostgreSQL, data as Parquet in a folder or an object store."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import duckdb

from katiml.store.engine import Backend, Engine, EngineTransaction, new_instance
from katiml.store.extras import cloud_extra
from katiml.store.failures import Interfered, Lost, translated, unreachable
from katiml.store.homes import Home, keep_for_ever
from katiml.store.location import DuckLakeLocation
from katiml.store.migrations import prepare
from katiml.store.pauses import Pauses
from katiml.store.sql import identifier, sql_string

__all__ = ["DuckLakeEngine", "DuckLakeHome", "open_engine"]

# DuckLake itself repeats commits that only raced for a snapshot number; with many writers its own
# default of 10 tries is not enough.
# A thread that tends idle connections would be missing in a forked child, whose end then hangs.
_SETTINGS = (
    "ducklake_max_retry_count = 100",
    "ducklake_retry_wait_ms = 10",
    "pg_pool_enable_reaper_thread = false",
)


class DuckLakeEngine(Engine):
    """An engine whose commits carry their token into the lake's snapshots."""

    def begin(self, *, alone: bool) -> EngineTransaction:
        return self._begin(_DuckLakeTransaction, alone=alone)

    def keep_copy(self, version: int) -> None:
        """Note the snapshot before the upgrade, in the setting `snapshot_of_schema_<version>`.

        DuckLake keeps earlier snapshots: `FROM lake.tags AT (VERSION => <that number>)` reads one.
        """
        transaction = self.begin(alone=True)
        try:
            transaction.execute(
                "INSERT INTO lake.settings (name, value) "
                "SELECT 'snapshot_of_schema_' || $version, max(snapshot_id)::VARCHAR "
                "FROM lake.snapshots()",
                {"version": str(version)},
            )
            transaction.commit("")
        finally:
            transaction.rollback()

    def erase(self, tables: Sequence[str]) -> list[str]:
        """Rewrite files with deleted rows; then no snapshot and no file but those of now is left.

        Whoever reads an older snapshot at this moment meets a file that is gone.
        """
        for table in tables:
            name = {"name": identifier(table)}
            # Rows of small inserts lie in the catalog until they are flushed.
            self._call("ducklake_flush_inlined_data('lake', table_name => $name)", name)
            self._call("ducklake_rewrite_data_files('lake', $name, delete_threshold => 0)", name)
        transaction = self.begin(alone=True)
        try:
            transaction.execute(
                "DELETE FROM lake.settings WHERE starts_with(name, 'snapshot_of_schema_')", {}
            )
            transaction.commit("")
        finally:
            transaction.rollback()
        self._call("ducklake_expire_snapshots('lake', older_than => now())", {})
        self._call("ducklake_cleanup_old_files('lake', cleanup_all => true)", {})
        return []

    def tidy(self) -> None:
        """Expire snapshots of yesterday and before, and delete the files that only they needed.

        Those kept as copies of the lake before an upgrade stay.
        """
        old = self.query(
            "SELECT snapshot_id::BIGINT AS id FROM lake.snapshots() "
            "WHERE snapshot_time < now() - INTERVAL 1 DAY "
            "AND snapshot_id < (SELECT max(snapshot_id) FROM lake.snapshots()) "
            "AND snapshot_id::VARCHAR NOT IN (SELECT value FROM lake.settings "
            "WHERE starts_with(name, 'snapshot_of_schema_'))",
            {},
        )
        if old.num_rows:
            versions = {"versions": old["id"].to_pylist()}
            self._call("ducklake_expire_snapshots('lake', versions => $versions)", versions)
        self._call("ducklake_cleanup_old_files('lake', older_than => now() - INTERVAL 1 DAY)", {})

    def _call(self, function: str, parameters: Mapping[str, Any]) -> None:
        cursor = self.cursor()
        try:
            with self.guarded():
                cursor.execute(f"CALL {function}", dict(parameters)).to_arrow_table()
        finally:
            cursor.close()

    def committed(self, token: str) -> bool:
        # PostgreSQL may still be at the commit whose connection was lost: it takes milliseconds.
        time.sleep(0.5)
        found = self.query(
            "SELECT 1 FROM lake.snapshots() WHERE commit_extra_info = $token", {"token": token}
        )
        return bool(found.num_rows)


class _DuckLakeTransaction(EngineTransaction):
    def commit(self, token: str) -> None:
        if token:
            with self._engine.guarded():
                self._cursor.execute(
                    "CALL lake.set_commit_message('katiml', '', extra_info => $token)",
                    {"token": token},
                )
        super().commit(token)


def open_engine(location: DuckLakeLocation) -> DuckLakeEngine:
    """Attach the DuckLake, making its catalog, tables and data folder where they are absent.

    Raises MissingExtra without `katiml[cloud]`, StoreError where PostgreSQL does not answer.
    """
    pauses = Pauses(location.place)
    while True:
        try:
            return _open_engine(location)
        except Interfered as error:  # another process makes or upgrades the same lake
            pauses.pause(error)


def _open_engine(location: DuckLakeLocation) -> DuckLakeEngine:
    remote = "://" in location.data_path
    connection = new_instance(
        os.path.join(tempfile.gettempdir(), f"katiml-{os.getpid()}"),
        # pip has checked the extensions; a second check of their signatures takes 0.3 s.
        allow_unsigned_extensions=True,
    )
    try:
        _load_extensions(connection, remote=remote)
        with translated(location.place):
            if remote:
                _use_credentials(connection)
            else:
                os.makedirs(location.data_path, exist_ok=True)
            for setting in _SETTINGS:
                connection.execute(f"SET GLOBAL {setting}")
        _attach(connection, location)
        with translated(location.place):
            directory = sql_string(location.data_path.rstrip("/") + "/")
            connection.execute(f"SET allowed_directories = [{directory}]")
            connection.execute("SET enable_external_access = false")
    except BaseException:
        connection.close()
        raise
    engine = DuckLakeEngine(connection, location.place, single_writer=False)
    try:
        prepare(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _load_extensions(connection: duckdb.DuckDBPyConnection, *, remote: bool) -> None:
    # Straight from the installed wheels: nothing is downloaded or copied to the home folder.
    for name in ("ducklake", "postgres_scanner", *(["httpfs"] if remote else [])):
        with cloud_extra():
            folder = resources.files(f"duckdb_extension_{name}")
        file = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        with translated("katiml[cloud]"):
            connection.execute(f"LOAD {sql_string(str(file))}")


def _use_credentials(connection: duckdb.DuckDBPyConnection) -> None:
    """Let DuckDB reach S3 with what the AWS_* environment variables say."""
    options = {
        "KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID"),
        "SECRET": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "SESSION_TOKEN": os.environ.get("AWS_SESSION_TOKEN"),
        "REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        options["ENDPOINT"] = parts.netloc
        options["URL_STYLE"] = "path"
        options["USE_SSL"] = "false" if parts.scheme == "http" else "true"
    settings = "".join(f", {key} {sql_string(value)}" for key, value in options.items() if value)
    connection.execute(f"CREATE OR REPLACE SECRET lake_data (TYPE s3{settings})")


def _attach(connection: duckdb.DuckDBPyConnection, location: DuckLakeLocation) -> None:
    try:
        with translated(location.place):
            connection.execute(
                f"ATTACH {sql_string('ducklake:postgres:' + location.dsn)} AS lake "
                f"(DATA_PATH {sql_string(location.data_path.rstrip('/') + '/')}, "
                f"METADATA_SCHEMA {sql_string(location.metadata_schema)})"
            )
    except Lost as error:
        raise unreachable(location.place, error) from error


class DuckLakeHome(Home):
    """A DuckLake as this process reaches it."""

    def __init__(self, key: str, location: DuckLakeLocation) -> None:
        self._location = location
        self._engine: DuckLakeEngine | None = None
        super().__init__(key)

    def backend(self) -> Backend:
        with self.lock:
            if self._engine is not None and self._engine.broken:
                self.close()
            if self._engine is None:
                self._engine = open_engine(self._location)
            return self._engine

    def close(self) -> None:
        with self.lock:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.close()

    def abandon(self) -> None:
        if self._engine is not None:
            keep_for_ever(self._engine)
        self._engine = None
