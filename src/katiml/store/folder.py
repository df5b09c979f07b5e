"""A lake in a folder: one DuckDB file, owned by one process at a time."""

from __future__ import annotations

from pathlib import Path

from katiml.errors import StoreError
from katiml.store.engine import Backend, Engine, new_instance
from katiml.store.failures import translated
from katiml.store.homes import Home, keep_for_ever
from katiml.store.location import FolderLocation
from katiml.store.migrations import prepare
from katiml.store.sql import sql_string

__all__ = ["FolderHome", "open_engine"]

FILE_NAME = "lake.duckdb"


def open_engine(folder: Path) -> Engine:
    """Own the lake in `folder`: attach its file, make or upgrade its tables.

    Raises `Locked` when another process owns it.
    """
    place = str(folder)
    with translated(place):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"{place} is not a folder", hint="name a folder") from error
    connection = new_instance(str(folder / "tmp"))
    try:
        with translated(place):
            connection.execute(f"ATTACH {sql_string(str(folder / FILE_NAME))} AS lake")
            connection.execute(f"SET allowed_directories = [{sql_string(place)}]")
            connection.execute("SET enable_external_access = false")
    except BaseException:
        connection.close()
        raise
    engine = Engine(connection, place, single_writer=True)
    try:
        prepare(engine, lambda _version: None)
    except BaseException:
        engine.close()
        raise
    return engine


class FolderHome(Home):
    """A folder's lake as this process reaches it."""

    def __init__(self, key: str, location: FolderLocation) -> None:
        self._location = location
        self._engine: Engine | None = None
        super().__init__(key)

    def backend(self) -> Backend:
        with self.lock:
            if self._engine is None:
                self._engine = open_engine(self._location.folder)
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
